# find_package(cohort): headers, the shared library, the program, and what they need.
