# Python's and NumPy's header folders belong to one machine, but rosidl exports them with the targets of
# every message package. Two repairs:

# Imported targets: the ROS 2 wheels still name folders of the machine they were built on, and CMake
# refuses to generate when an imported target names a folder that does not exist. rosidl finds those
# headers for this interpreter by itself, so the dead entries are removed. On an apt installation every
# folder exists and nothing changes.
function(heisd_drop_missing_includes)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT folders)
      continue()
    endif()
    set(kept "")
    foreach(folder IN LISTS folders)
      # Generator expressions and relative entries are left for CMake to judge.
      if(NOT IS_ABSOLUTE "${folder}" OR EXISTS "${folder}")
        list(APPEND kept "${folder}")
      endif()
    endforeach()
    set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()
endfunction()

# Our own target: its absolute folders are for building only. Otherwise we would export them too, and
# CMake would refuse a virtual environment inside the source tree, where `make` puts it.
function(heisd_keep_includes_private target)
  get_target_property(folders ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(private "")
  foreach(folder IN LISTS folders)
    if(IS_ABSOLUTE "${folder}")
      set(folder "$<BUILD_INTERFACE:${folder}>")
    endif()
    list(APPEND private "${folder}")
  endforeach()
  set_property(TARGET ${target} PROPERTY INTERFACE_INCLUDE_DIRECTORIES "${private}")
endfunction()
