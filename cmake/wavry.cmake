# The few words that every CMakeLists.txt of the project is written in.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

# wv_pkg(NAME module...): imported target PkgConfig::NAME, configured once.
function(wv_pkg name)
  if(NOT TARGET PkgConfig::${name})
    pkg_check_modules(${name} REQUIRED IMPORTED_TARGET GLOBAL ${ARGN})
  endif()
endfunction()

# wv_library(NAME SOURCES a.c ... DEPS target ...)
function(wv_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_link_libraries(${name} PUBLIC ${A_DEPS})
endfunction()

# All that is installed, without the tests.
add_custom_target(programs)

# wv_program(NAME SOURCES a.c ... DEPS target ...): build/bin/NAME, installed.
function(wv_program name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE ${A_DEPS})
  install(TARGETS ${name} RUNTIME DESTINATION bin)
  add_dependencies(programs ${name})
endfunction()

set(WAVRY_LSAN "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")

# wv_timeout(VAR SECONDS): what a test may take; the sanitizers make it several times slower.
function(wv_timeout var seconds)
  if(WAVRY_SANITIZE OR WAVRY_MSAN)
    math(EXPR seconds "4 * ${seconds}")
  endif()
  set(${var} ${seconds} PARENT_SCOPE)
endfunction()

# wv_msan(PROGRAM TEST DEPS target...): the test belongs to the target and label msan when all that it runs is
# built with MemorySanitizer: rift's own libraries are. Of the foreign functions msan_foreign.c says what they do.
# Unit tests can't be: Check writes to files what MemorySanitizer never saw it set.
if(WAVRY_MSAN)
  add_custom_target(msan)
  set(source ${CMAKE_SOURCE_DIR}/tests/fuzz/msan_foreign.c)
  add_library(msan-foreign OBJECT EXCLUDE_FROM_ALL ${source})
  target_link_libraries(msan-foreign INTERFACE sodium isal)
  file(STRINGS ${source} lines REGEX "^WRAP(_VOID)?\\(")
  foreach(line ${lines})
    string(REGEX REPLACE "^WRAP(_VOID\\(|\\([a-z *]+, )([a-z0-9_]+).*" "\\2" name "${line}")
    target_link_options(msan-foreign INTERFACE -Wl,--wrap=${name})
  endforeach()
endif()
function(wv_msan program test)
  set(foreign ${ARGN})
  list(FILTER foreign EXCLUDE REGEX "^(rift-.*|wv-base|m)$")
  if(WAVRY_MSAN AND NOT foreign)
    target_link_libraries(${program} PRIVATE msan-foreign)
    target_sources(${program} PRIVATE $<TARGET_OBJECTS:msan-foreign>)
    add_dependencies(msan ${program})
    set_property(TEST ${test} APPEND PROPERTY LABELS msan)
  endif()
endfunction()

# wv_test(NAME DEPS target ... [SOURCES extra.c ...] [TIMEOUT seconds]): tests/unit/NAME.c with Check.
function(wv_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 180)
  endif()
  wv_pkg(CHECK check)
  add_executable(${name} ${CMAKE_SOURCE_DIR}/tests/unit/${name}.c ${A_SOURCES})
  target_link_libraries(${name} PRIVATE ${A_DEPS} PkgConfig::CHECK)
  add_test(NAME unit/${name} COMMAND ${name})
  # One limit for the program. Check's own, 4 s for each test, says more about the machine than about the code.
  wv_timeout(timeout ${A_TIMEOUT})
  set_tests_properties(unit/${name} PROPERTIES TIMEOUT ${timeout} LABELS unit
    ENVIRONMENT "CK_DEFAULT_TIMEOUT=${timeout};${WAVRY_LSAN}")
endfunction()

# wv_fuzz(NAME DEPS target ...): tests/fuzz/NAME.c (LLVMFuzzerTestOneInput) with its
# corpus in tests/fuzz/corpus/NAME. Without libFuzzer a small main() replays the corpus.
function(wv_fuzz name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/${name}.c ${A_SOURCES})
  if(WAVRY_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.c)
  endif()
  target_link_libraries(${name} PRIVATE ${A_DEPS})
  add_test(NAME fuzz/${name} COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
  wv_timeout(timeout 120)
  set_tests_properties(fuzz/${name} PROPERTIES TIMEOUT ${timeout} LABELS fuzz)
  wv_msan(${name} fuzz/${name} ${A_DEPS})
endfunction()
