set(COHORT_WARNINGS -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Werror
    -Wno-restrict)   # GCC 12 warns of std::string + at -O3 where nothing is wrong (PR 105329)

# No global fast-math: NaN and infinity must behave. These two only say that nobody reads errno or floating-point traps,
# without which GCC does not vectorise floor and friends.
set(COHORT_FAST_MATH -fno-math-errno -fno-trapping-math)

if(COHORT_NATIVE)
  # Not -march=native: GCC's tuning for Zen halves the speed of matrix products (measured), and this code is portable.
  add_compile_options(-march=haswell -mtune=haswell)
endif()

if(COHORT_SANITIZE STREQUAL "address")
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(COHORT_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(COHORT_SANITIZE)
  message(FATAL_ERROR "COHORT_SANITIZE='${COHORT_SANITIZE}': expected address, thread or nothing")
endif()

# Test programs are compiled far more often than they are run: with little optimisation, which halves their cost.
set(COHORT_TEST_OPTIONS ${COHORT_WARNINGS} $<$<CONFIG:Release>:-O1> $<$<CONFIG:Sanitize>:-O0>)
