#pragma once

/// Everything that a model, an op, an optimizer, a data set or a program of one's own needs.
#include "cohort/comm/communicator.hpp"
#include "cohort/comm/control.hpp"
#include "cohort/data/reader.hpp"
#include "cohort/exec/elementwise_kernel.hpp"
#include "cohort/faults/fault_injection.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "cohort/graph/layers.hpp"
#include "cohort/graph/model.hpp"
#include "cohort/job/job.hpp"
#include "cohort/params/optimizer.hpp"
#include "cohort/tensor/elementwise.hpp"
#include "cohort/train/trainer.hpp"
