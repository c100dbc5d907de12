# find_package(cohort): headers, the shared library, plug-ins, the program, the example jobs.
include(CMakePackageConfigHelpers)

# Debian's HDF5 and Open MPI lie in folders of their own. The same run path when built and when installed: nothing to edit.
set_target_properties(cohort PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON BUILD_WITH_INSTALL_RPATH ON)
set_target_properties(cohort_program PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
install(TARGETS cohort cohort_program EXPORT cohort
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
set_target_properties(cohort_debug PROPERTIES INSTALL_RPATH "$ORIGIN/..")
install(TARGETS cohort_debug LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/cohort)   # plug-ins
install(DIRECTORY include/cohort DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY jobs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/cohort/jobs FILES_MATCHING PATTERN "*.toml" PATTERN models EXCLUDE)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/cohort)
install(EXPORT cohort NAMESPACE cohort:: FILE cohortTargets.cmake DESTINATION ${package})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/cohortConfig.cmake.in ${CMAKE_BINARY_DIR}/cohortConfig.cmake
                              INSTALL_DESTINATION ${package})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/cohortConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/cohortConfig.cmake ${CMAKE_BINARY_DIR}/cohortConfigVersion.cmake DESTINATION ${package})
