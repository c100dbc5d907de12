#include "cohort/tensor/tensor.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cohort {
namespace {

using ::testing::ElementsAre;

TEST(Tensor, PaddedRowsAreReadAndWrittenWithoutTheirPadding) {
  const Tensor padded(host(), DType::float32, {2, 3}, 8);
  std::fill_n(static_cast<float*>(padded.raw()), 11, -1.f);
  padded.copy_from(Tensor::of<float>({2, 3}, {1, 2, 3, 4, 5, 6}));
  EXPECT_THAT(padded.to_vector<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(padded.data<float>()[3], -1.f);
  EXPECT_EQ(padded.data<float>()[8], 4.f);
  EXPECT_EQ(padded.bytes(), 11 * sizeof(float));
  EXPECT_FALSE(padded.dense());
  EXPECT_THROW((void)padded.reshaped({6}), Error);
}

TEST(Tensor, ACopyIsASecondView) {
  const Tensor a = Tensor::zeros({2});
  const Tensor b = a;
  b.data<float>()[1] = 7;
  EXPECT_THAT(a.to_vector<float>(), ElementsAre(0, 7));
}

TEST(Tensor, RefusesOtherTypesAndShapes) {
  const Tensor a = Tensor::zeros({2});
  EXPECT_THROW((void)a.data<int>(), Error);
  EXPECT_THROW(a.copy_from(Tensor::zeros({3})), Error);
  EXPECT_THROW(a.copy_from(Tensor::zeros({2}, DType::int32)), Error);
  EXPECT_THROW(Tensor(host(), DType::float32, {2, 4}, 3), Error);
}

TEST(Tensor, EmptyTensorsHaveNoBytes) {
  EXPECT_EQ(Tensor::zeros({0, 5}).bytes(), 0u);
  EXPECT_TRUE(Tensor::zeros({5, 0}).to_vector<float>().empty());
}

TEST(Device, UnknownOnesAreNamedWithWhatThereIs) {
  EXPECT_THROW((void)open_device("CPU:1"), Error);
  EXPECT_THROW((void)open_device("CPU:x"), Error);
  try {
    (void)open_device("GPU:0");
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("unknown device type 'GPU'"), std::string::npos) << error.what();
  }
}

TEST(Device, CountsWhatItHasGiven) {
  std::shared_ptr<Device> device = open_device("CPU:0");
  EXPECT_EQ(device->memory().now, 0);
  Buffer a = device->allocate(1000);
  {
    const Buffer b = device->allocate(500), copy = b;
    EXPECT_EQ(device->memory().now, 1500);
  }
  EXPECT_EQ(device->memory().now, 1000);
  EXPECT_EQ(device->memory().most, 1500);
  device.reset();          // a buffer may outlive its device
  a = {};
}

}  // namespace
}  // namespace cohort
