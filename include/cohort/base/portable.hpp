#pragma once

/// Marks a function that the CPU and the GPU compiler both translate: the only macro, and with `elementwise.hpp` the only
/// place that asks which compiler is at work.
#ifdef __CUDACC__
#define COHORT_HD __host__ __device__
#else
#define COHORT_HD
#endif
