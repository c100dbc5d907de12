# cohort_mpi_test(NAME SOURCES a.cpp ... RANKS 1 2 4): one GoogleTest program, run under mpirun once per rank
# count as NAME.npN. Tests reach the ranks by testing::world().
function(cohort_mpi_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBRARIES;RANKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES} ${PROJECT_SOURCE_DIR}/tests/support/mpi_gtest_main.cpp)
  target_link_libraries(${name} PRIVATE cohort GTest::gtest GTest::gmock fmt::fmt ${arg_LIBRARIES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_compile_options(${name} PRIVATE ${COHORT_TEST_OPTIONS})
  target_compile_definitions(${name} PRIVATE COHORT_BRIEF=$<BOOL:${COHORT_SANITIZE}>)
  cohort_precompile(${name})
  math(EXPR watchdog "${COHORT_TEST_LIMIT} - 60")   # names the hung test before CTest kills the program
  if(COHORT_SANITIZE)
    return()                                 # Open MPI itself is full of reports; the bodies run on threads as well
  endif()
  foreach(ranks IN LISTS arg_RANKS)
    add_test(NAME ${name}.np${ranks} COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none ${MPIEXEC_NUMPROC_FLAG}
             ${ranks} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.np${ranks} PROPERTIES TIMEOUT ${COHORT_TEST_LIMIT} PROCESSORS 3 COST 100 LABELS mpi
      ENVIRONMENT "${COHORT_MPI_TEST_ENVIRONMENT};COHORT_TEST_TIMEOUT=${watchdog}")
  endforeach()
endfunction()

# One machine, maybe root, more ranks than cores: waits must yield, and ranks must not be bound to the same core.
set(COHORT_MPI_TEST_ENVIRONMENT OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_pml=ob1
    OMPI_MCA_btl=self,vader OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_base_warn_component_unused=0 HWLOC_COMPONENTS=-gl)
