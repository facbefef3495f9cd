# The operator's page is a part of the program: no file is opened for a stranger, and it fits to the API it came with.
set(page ${CMAKE_CURRENT_SOURCE_DIR}/page)
set(page_files ${CMAKE_CURRENT_BINARY_DIR}/page_files.c)
file(GLOB page_sources CONFIGURE_DEPENDS ${page}/*.html ${page}/*.css ${page}/*.js ${page}/*.svg)
add_custom_command(OUTPUT ${page_files}
  COMMAND ${CMAKE_COMMAND} -DFOLDER=${page} -DOUT=${page_files} -P ${page}/embed.cmake
  DEPENDS ${page}/embed.cmake ${page_sources} VERBATIM)
target_sources(wv-gateway PRIVATE ${page_files})
