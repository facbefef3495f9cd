# cmake -DFOLDER=... -DOUT=... -P embed.cmake: the page's files as C arrays, as they are and made smaller, each with the
# tag that names its content. The same files always give the same bytes (gzip -n).
set(files
  "/|index.html|text/html\; charset=utf-8"
  "/page/page.css|page.css|text/css\; charset=utf-8"
  "/page/page.js|page.js|text/javascript\; charset=utf-8"
  "/page/api.js|api.js|text/javascript\; charset=utf-8"
  "/page/dom.js|dom.js|text/javascript\; charset=utf-8"
  "/page/views.js|views.js|text/javascript\; charset=utf-8"
  "/page/machines.js|machines.js|text/javascript\; charset=utf-8"
  "/page/relays.js|relays.js|text/javascript\; charset=utf-8"
  "/page/audit.js|audit.js|text/javascript\; charset=utf-8"
  "/page/accounts.js|accounts.js|text/javascript\; charset=utf-8"
  "/page/account.js|account.js|text/javascript\; charset=utf-8"
  "/page/qr.js|qr.js|text/javascript\; charset=utf-8"
  "/page/icon.svg|icon.svg|image/svg+xml")
set(arrays "")
set(entries "")
set(n 0)
foreach(entry IN LISTS files)
  string(REPLACE "|" ";" parts "${entry}")
  list(GET parts 0 path)
  list(GET parts 1 name)
  list(SUBLIST parts 2 -1 type)
  file(READ ${FOLDER}/${name} hex HEX)
  file(SHA256 ${FOLDER}/${name} tag)
  string(SUBSTRING ${tag} 0 32 tag)
  execute_process(COMMAND gzip -9 -n -c ${FOLDER}/${name} OUTPUT_FILE ${OUT}.gz COMMAND_ERROR_IS_FATAL ANY)
  file(READ ${OUT}.gz gzip HEX)
  file(REMOVE ${OUT}.gz)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," gzip_bytes "${gzip}")
  string(APPEND arrays "static const unsigned char file_${n}[] = {${bytes}};\n"
    "static const unsigned char gzip_${n}[] = {${gzip_bytes}};\n")
  string(APPEND entries "    {\"${path}\", \"${type}\", \"\\\"${tag}\\\"\", file_${n}, sizeof file_${n},\n"
    "     \"\\\"${tag}-gzip\\\"\", gzip_${n}, sizeof gzip_${n}},\n")
  math(EXPR n "${n} + 1")
endforeach()
file(WRITE ${OUT} "/* Made by embed.cmake from the files of services/gateway/page. */
#include \"services/gateway/page.h\"

${arrays}
const struct wv_page_file wv_page_files[] = {
${entries}    {0},
};
")
