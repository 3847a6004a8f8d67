"""Vision-language-action control of robot arms over ROS 2."""

from __future__ import annotations

from pkgutil import extend_path

__version__ = "0.1.0"

# In an editable install the sources are here, while the messages generated for this environment's
# ROS lie in its site-packages as a second part of the same package (setup.py explains). In every
# other install the package has one part and this changes nothing.
__path__ = extend_path(__path__, __name__)
