# The message generators are Python programs. Where the interpreter is too old or lacks what they import, they
# fail in the middle of a build with a traceback: say it before.
function(heisd_check_python)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  if(Python3_VERSION VERSION_LESS 3.10)
    message(FATAL_ERROR
      "heisd_ros needs Python 3.10 or newer, but ${Python3_EXECUTABLE} is ${Python3_VERSION}: give another "
      "one with -DPython3_EXECUTABLE=..., or activate its virtual environment first")
  endif()
  set(missing "")
  # Module, and what pip and apt call it.
  foreach(entry "em empy python3-empy" "lark lark-parser python3-lark"
                "catkin_pkg catkin_pkg python3-catkin-pkg" "numpy numpy python3-numpy")
    separate_arguments(pair UNIX_COMMAND "${entry}")
    list(GET pair 0 module)
    list(GET pair 1 pip)
    list(GET pair 2 apt)
    execute_process(COMMAND "${Python3_EXECUTABLE}" -c "import ${module}"
                    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_QUIET)
    if(failed)
      string(APPEND missing "\n  ${module}: pip install ${pip}, or apt install ${apt}")
    endif()
  endforeach()
  if(missing)
    message(FATAL_ERROR "${Python3_EXECUTABLE} cannot import what the message generators need:${missing}")
  endif()
endfunction()
