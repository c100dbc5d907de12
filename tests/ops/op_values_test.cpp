// Values and gradients of every example of every registered op against an independent reference: the example's own
// `expected`, or PyTorch's numbers in op_values.txt. An op in a new file is found by itself.
#include <fmt/core.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "ops/op_cases.hpp"

namespace cohort::test {
namespace {

using References = std::map<std::string, std::vector<double>>;   // "Add 0123456789abcdef y0" -> numbers

const References& references() {
  static const References result = [] {
    References read;
    std::ifstream file(COHORT_SOURCE_DIR "/tests/ops/op_values.txt");
    for (std::string line; std::getline(file, line);) {
      if (line.empty() || line[0] == '#') continue;
      std::istringstream words(line);
      std::string op, key, what, number;
      words >> op >> key >> what;
      auto& numbers = read[op + " " + key + " " + what];
      while (words >> number) numbers.push_back(std::stod(number));
    }
    return read;
  }();
  return result;
}

constexpr const char* kHowTo =
    ": no reference value. Give the example `expected`, or add the op to tests/ops/make_op_values.py and run "
    "`tests/ops/make_op_values.py BUILD/tests/ops/op_examples`";

void expect_close(const std::vector<double>& have, const std::vector<double>& want, double tolerance,
                  const std::string& what) {
  ASSERT_EQ(have.size(), want.size()) << what;
  double scale = 0;
  for (const double x : want) scale = std::isfinite(x) ? std::max(scale, std::fabs(x)) : scale;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) {
      EXPECT_TRUE(std::isnan(have[i])) << what << ", element " << i << " is " << have[i] << ", not NaN";
    } else if (std::isinf(want[i])) {
      EXPECT_EQ(have[i], want[i]) << what << ", element " << i;
    } else {
      ASSERT_NEAR(have[i], want[i], tolerance * scale) << what << ", element " << i;
    }
  }
}

class OpValues : public testing::TestWithParam<std::string> {};

void check_case(const OpCase& op_case) {
  SCOPED_TRACE(op_case.text());
  const CaseGraph built(op_case);
  Session session(const_cast<Graph&>(built.graph));
  std::vector<Value> fetches = built.outputs;
  fetches.insert(fetches.end(), built.gradients.begin(), built.gradients.end());
  const std::vector<Tensor> results = session.run(fetches, built.feeds());
  const auto& expected = op_case.example->expected;
  for (std::size_t k = 0; k < built.outputs.size(); ++k) {
    const auto at = references().find(fmt::format("{} {} y{}", op_case.op, op_case.key(), k));
    const bool known = at != references().end();
    if (expected.empty() && !known) FAIL() << op_case.text() << kHowTo;
    ASSERT_TRUE(expected.empty() || k < expected.size()) << "no expected values for output " << k;
    const std::vector<double>& want = expected.empty() ? at->second : expected[k];
    expect_close(to_doubles(results[k]), want, op_case.example->tolerance, fmt::format("output {}", k));
    ASSERT_EQ(results[k].shape(), built.outputs[k].shape());
  }
  for (std::size_t g = 0; g < built.gradients.size(); ++g) {
    const auto at = references().find(fmt::format("{} {} dx{}", op_case.op, op_case.key(), built.float_inputs[g]));
    if (at == references().end() && !expected.empty()) continue;   // finite differences still check it
    if (at == references().end()) FAIL() << "gradient of " << op_case.text() << kHowTo;
    expect_close(to_doubles(results[built.outputs.size() + g]), at->second, 5 * op_case.example->tolerance,
                 fmt::format("gradient of input {}", built.float_inputs[g]));
  }
}

TEST_P(OpValues, MatchTheReference) {
  const auto cases = cases_of(GetParam());
  ASSERT_FALSE(cases.empty()) << GetParam() << " has no examples";
  for (const OpCase& op_case : cases) check_case(op_case);
}

INSTANTIATE_TEST_SUITE_P(Registry, OpValues, testing::ValuesIn(generic_ops()), [](const auto& of) { return of.param; });

// An op may leave the generic tests only for tests of its own.
TEST(OpRegistry, EveryOpLeftOutHasADedicatedTest) {
  for (const auto& [op, path] : dedicated_tests()) {
    const Op* definition = Registry<Op>::instance().find(op);
    ASSERT_NE(definition, nullptr) << op << " is listed in dedicated_tests() and not registered";
    EXPECT_TRUE(definition->stateful || definition->source) << op << " has no reason to be left out of the generic tests";
    std::ifstream file(std::string(COHORT_SOURCE_DIR) + "/" + path);
    std::stringstream text;
    text << file.rdbuf();
    EXPECT_NE(text.str().find(op), std::string::npos) << path << " does not mention " << op;
  }
}

TEST(OpRegistry, EveryOpHasAKernelUnlessItIsASourceOrAView) {
  for (const auto& [op, entry] : Registry<Op>::instance().entries()) {
    bool view = false;
    for (const Reuse& reuse : entry.value.reuse) view = view || reuse.view;
    if (!entry.value.source && !view) {
      EXPECT_NE(Registry<KernelFactory>::instance().find(op + "@CPU"), nullptr) << op;
    }
  }
  for (const std::string& kernel : Registry<KernelFactory>::instance().names()) {
    const std::string op = kernel.substr(0, kernel.find('@'));
    EXPECT_NE(Registry<Op>::instance().find(op), nullptr) << kernel << " is the kernel of no op";
  }
}

TEST(OpRegistry, NoReferenceIsLeftBehind) {
  std::set<std::string> keys;
  for (const std::string& op : generic_ops()) {
    for (const OpCase& op_case : cases_of(op)) keys.insert(op + " " + op_case.key());
  }
  for (const auto& [name, numbers] : references()) {
    EXPECT_TRUE(keys.contains(name.substr(0, name.rfind(' ')))) << name << " belongs to no example" << kHowTo;
  }
}

}  // namespace
}  // namespace cohort::test
