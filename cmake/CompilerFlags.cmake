set(COHORT_WARNINGS -Wall -Wextra -Wconversion -Wno-sign-conversion -Wshadow -Werror
    -Wno-restrict)   # GCC 12 warns of std::string + at -O3 where nothing is wrong (PR 105329)

if(COHORT_SANITIZE)   # there GCC 12 finds the same nothing in precompiled headers, no longer seeing that they are the system's
  list(APPEND COHORT_WARNINGS -Wno-array-bounds -Wno-stringop-overflow -Wno-stringop-overread)
endif()

# No global fast-math: NaN and infinity must behave. These two only say that nobody reads errno or floating-point traps,
# without which GCC does not vectorise floor and friends.
set(COHORT_FAST_MATH -fno-math-errno -fno-trapping-math)

if(COHORT_NATIVE)
  # Not -march=native: GCC's tuning for Zen halves the speed of matrix products (measured), and this code is portable.
  add_compile_options(-march=haswell -mtune=haswell)
endif()

add_link_options(-Wl,--build-id=sha1)   # ranks that run different builds are told apart by it

if(COHORT_SANITIZE STREQUAL "address")
  # Without two checks of UBSan that find little beside ASan and cost a quarter of the compiler's time.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr,object-size -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(COHORT_SANITIZE STREQUAL "thread")
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer)
  add_link_options(-fsanitize=thread)
elseif(COHORT_SANITIZE)
  message(FATAL_ERROR "COHORT_SANITIZE='${COHORT_SANITIZE}': expected address, thread or nothing")
endif()

# Test programs are compiled far more often than they are run: with little optimisation, which halves their cost.
set(COHORT_TEST_OPTIONS ${COHORT_WARNINGS} $<$<CONFIG:Release>:-O1> $<$<CONFIG:Sanitize>:-O0>)
if(COHORT_SANITIZE STREQUAL "address")
  list(APPEND COHORT_TEST_OPTIONS -fno-sanitize=null,alignment)   # the tests' own pointers: ASan sees what is wrong with them
endif()

# Read by the compiler once instead of once a file.
set(COHORT_PRECOMPILED <algorithm> <array> <atomic> <chrono> <cmath> <cstring> <filesystem> <fstream> <functional> <limits> <map>
    <memory> <mutex> <numeric> <optional> <set> <span> <string> <string_view> <thread> <utility> <vector> <fmt/core.h>)
