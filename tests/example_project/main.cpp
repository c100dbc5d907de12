#include <cohort/job/job.hpp>

int main(int argc, char** argv) { return cohort::run_job(argc, argv); }
