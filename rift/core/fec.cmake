# Forward error correction, on ISA-L's Reed-Solomon.
wv_pkg(ISAL libisal)
wv_library(rift-fec SOURCES fec_code.c fec_decoder.c fec_encoder.c fec_matrix.c fec_plan.c fec_solve.c
           DEPS wv-base PkgConfig::ISAL)
wv_test(test_fec DEPS rift-fec)
wv_test(test_fec_bounds DEPS rift-fec)
wv_fuzz(fuzz_fec DEPS rift-fec)
add_executable(bench-fec ${CMAKE_SOURCE_DIR}/tests/bench/bench_fec.c)
target_link_libraries(bench-fec PRIVATE rift-fec)
wv_program(rift-fec-table SOURCES ${CMAKE_SOURCE_DIR}/rift/tools/fec_table.c DEPS rift-fec)
# The codes keep what they promise, also with fewer frames than the printed table has.
add_test(NAME unit/fec_table COMMAND rift-fec-table --frames 3000 --check)
set_tests_properties(unit/fec_table PROPERTIES TIMEOUT 120 LABELS unit)
