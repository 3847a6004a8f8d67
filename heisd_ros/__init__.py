"""Vision-language-action control of robot arms over ROS 2."""

from __future__ import annotations

from pkgutil import extend_path

from heisd_ros._moved import install


def _version() -> str:
    """The version in package.xml, by way of what was installed from it; a checkout has the file."""
    import os
    from importlib import metadata
    from pathlib import Path
    from xml.etree import ElementTree

    try:
        return metadata.version("heisd_ros")
    except metadata.PackageNotFoundError:  # built by colcon, or not installed at all
        prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        files = [Path(prefix) / "share/heisd_ros/package.xml" for prefix in prefixes if prefix]
        for file in (Path(__file__).parent.parent / "package.xml", *files):
            if file.is_file():
                return ElementTree.parse(file).getroot().findtext("version", "unknown")
        return "unknown"


__version__ = _version()

# In an editable install the sources are here, while the messages generated for this environment's
# ROS lie in its site-packages as a second part of the same package (setup.py explains). In every
# other install the package has one part and this changes nothing.
__path__ = extend_path(__path__, __name__)
install()
