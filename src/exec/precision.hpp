#pragma once

#include "exec/plan.hpp"

namespace cohort {

/// Mixed precision as in Kalamkar et al., arXiv 1905.12322: what enters a product (Op::products) is rounded to bfloat16 where it is
/// used; the product is summed in float32, and everything else stays as it is, the variables above all. `native`: ops that can do
/// so convert and multiply as bfloat16 themselves.
void round_products(Plan& plan, bool native);

}  // namespace cohort
