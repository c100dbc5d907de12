// Convolution of images [n, h, w, c] with filters [kh, kw, c / groups, f], as a cross-correlation:
// y[n, i, j, o] = bias[o] + Σ x[n, i·stride + a·dilation − before, …, c] · filter[a, b, c, o]
// (Dumoulin & Visin, "A guide to convolution arithmetic for deep learning", 2016). Images stay plain; oneDNN chooses the
// filter's layout, and filters are small, so reordering them in every run costs little: this is the fastest combination
// that leaves few shapes to oneDNN's reference implementation, which is right but slow (blocked images fall to it for the
// gradient of the first layer's filter; plain ones for some dilated filters with one channel of the result).
#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cohort/exec/kernel.hpp"
#include "cohort/graph/functions.hpp"
#include "cohort/graph/gradients.hpp"
#include "onednn.hpp"
#include "window.hpp"

namespace cohort {
namespace {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;
constexpr auto kFloat = dnnl::memory::data_type::f32;
constexpr auto kDirect = dnnl::algorithm::convolution_direct;

Attrs attrs_of(const Attrs& attrs) {
  return {{"stride", attrs.get<std::int64_t>("stride", 1)},
          {"padding", attrs.get<std::string>("padding")},
          {"dilation", attrs.get<std::int64_t>("dilation", 1)},
          {"groups", attrs.get<std::int64_t>("groups", 1)}};
}

/// The output's shape for an image and a filter.
Shape infer_output(const Inference& c, const Shape& x, const Shape& filter) {
  const std::int64_t groups = positive_attr(c, "groups", 1);
  if (filter[3] != Shape::kUnknown && (filter[3] == 0 || filter[3] % groups != 0)) {
    c.refuse(std::to_string(groups) + " groups do not divide " + std::to_string(filter[3]) + " filters");
  }
  if (x[3] != Shape::kUnknown && filter[2] != Shape::kUnknown && (x[3] == 0 || x[3] != filter[2] * groups)) {
    c.refuse("an image of " + std::to_string(x[3]) + " channels and " + std::to_string(groups) +
             " groups needs filters of " + std::to_string(x[3] / groups) + " channels, they have " +
             std::to_string(filter[2]));
  }
  return {x[0], infer_window(c, x[1], filter[0]), infer_window(c, x[2], filter[1]), filter[3]};
}

/// Sizes and memory descriptions of one convolution.
struct Geometry {
  Geometry(const Shape& x, const Shape& filter, const Attrs& attrs) {
    const std::int64_t groups = attrs.get<std::int64_t>("groups", 1), stride = attrs.get<std::int64_t>("stride", 1);
    const std::int64_t dilation = attrs.get<std::int64_t>("dilation", 1);
    const Window rows = window_of(x[1], filter[0], stride, dilation, is_same_padding(attrs));
    const Window columns = window_of(x[2], filter[1], stride, dilation, is_same_padding(attrs));
    using Tag = dnnl::memory::format_tag;
    image = Desc({x[0], x[3], x[1], x[2]}, kFloat, Tag::nhwc);
    result = Desc({x[0], filter[3], rows.out, columns.out}, kFloat, Tag::nhwc);
    const Dims dims = groups == 1 ? Dims{filter[3], filter[2], filter[0], filter[1]}
                                  : Dims{groups, filter[3] / groups, filter[2], filter[0], filter[1]};
    own_filter = Desc(dims, kFloat, groups == 1 ? Tag::hwio : Tag::hwigo);
    any_filter = Desc(dims, kFloat, Tag::any);
    bias = Desc({filter[3]}, kFloat, Tag::x);
    strides = {stride, stride};
    dilations = {dilation - 1, dilation - 1};
    before = {rows.before, columns.before};
    after = {rows.after, columns.after};
  }

  [[nodiscard]] dnnl::convolution_forward::primitive_desc forward(const onednn::Cpu& cpu, bool with_bias) const {
    const auto training = dnnl::prop_kind::forward_training;
    const auto desc = with_bias ? dnnl::convolution_forward::desc(training, kDirect, image, any_filter, bias, result,
                                                                  strides, dilations, before, after)
                                : dnnl::convolution_forward::desc(training, kDirect, image, any_filter, result, strides,
                                                                  dilations, before, after);
    return {desc, onednn::user_scratchpad(), cpu.engine};
  }

  Desc image, result, own_filter, any_filter, bias;
  Dims strides, dilations, before, after;
};

/// The primitive for some of the images, and the filter in oneDNN's layout.
struct Part {
  Part(const dnnl::engine& engine, const NodeInfo& info, const Shape& x, const Shape& filter_shape, std::int64_t first_image)
      : cpu(engine, info.device),
        geometry(x, filter_shape, info.attrs),
        first(first_image),
        image(cpu.wrap(geometry.image)),
        result(cpu.wrap(geometry.result)),
        filter(cpu.wrap(geometry.own_filter)),
        inner_filter(filter),
        bias(cpu.wrap(geometry.bias)) {}

  /// oneDNN wants the filter as `desc`: makes room for it. Returns whether it has to be reordered.
  bool set_filter(const Desc& desc) {
    if (desc == geometry.own_filter) return false;
    inner_filter = cpu.scratch(desc);
    return true;
  }

  [[nodiscard]] onednn::Call reordered(const dnnl::memory& from, const dnnl::memory& to) {
    const dnnl::reorder::primitive_desc desc(cpu.engine, from.get_desc(), cpu.engine, to.get_desc(),
                                             onednn::user_scratchpad());
    const auto scratch = cpu.scratch(desc.scratchpad_desc());
    return {cpu, dnnl::reorder(desc), {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}, {DNNL_ARG_SCRATCHPAD, scratch}}};
  }

  onednn::Cpu cpu;
  Geometry geometry;
  std::int64_t first;          // image
  dnnl::memory image, result, filter, inner_filter, bias;
  onednn::Call reorder, call;
};

void point(dnnl::memory& memory, float* data) { onednn::check(dnnl_memory_set_data_handle(memory.get(), data)); }

/// What the three kernels share: parts of `images` images, spread over the threads of the pool, one oneDNN thread each.
/// OpenMP's own threads spin where they wait, which halves the speed of a machine that does anything else besides.
class ConvolutionKernel : public Kernel {
 protected:
  ConvolutionKernel(const NodeInfo& info, const Shape& x, const Shape& filter, const Shape& y, std::int64_t images) {
    onednn::use_threads(1);
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    for (std::int64_t first = 0; first < x[0] && y.elements() > 0; first += images) {
      Shape some = x;
      some.set(0, std::min(images, x[0] - first));
      parts_.emplace_back(engine, info, some, filter, first);
    }
    if (x[0] > 0) x_size_ = x.elements() / x[0], y_size_ = y.elements() / x[0];
  }

  /// So many images that every thread of the pool has one part.
  static std::int64_t share_of(const NodeInfo& info, const Shape& x) {
    return std::max<std::int64_t>((x[0] + info.pool.threads() - 1) / info.pool.threads(), 1);
  }

  /// f(part) for every part, each on a thread of its own.
  template <class F>
  void for_parts(ThreadPool& pool, F f) {
    pool.parallel_for(static_cast<std::int64_t>(parts_.size()), 1, [&](std::int64_t begin, std::int64_t end) {
      onednn::use_threads(1);
      for (std::int64_t i = begin; i < end; ++i) f(parts_[static_cast<std::size_t>(i)]);
    });
  }

  void point_images(Part& part, const Tensor& x, const Tensor& y) const {
    point(part.image, x.data<float>() + part.first * x_size_);
    point(part.result, y.data<float>() + part.first * y_size_);
  }

  std::vector<Part> parts_;

 private:
  std::int64_t x_size_ = 0, y_size_ = 0;   // elements of one image and its result
};

class Conv2DKernel final : public ConvolutionKernel {
 public:
  explicit Conv2DKernel(const NodeInfo& info)
      : ConvolutionKernel(info, info.in[0].shape, info.in[1].shape, info.out[0].shape, share_of(info, info.in[0].shape)),
        with_bias_(info.in.size() == 3) {
    for (Part& part : parts_) {
      const auto desc = part.geometry.forward(part.cpu, with_bias_);
      if (part.set_filter(desc.weights_desc())) part.reorder = part.reordered(part.filter, part.inner_filter);
      std::vector<std::pair<int, dnnl::memory>> arguments{{DNNL_ARG_SRC, part.image},
                                                          {DNNL_ARG_WEIGHTS, part.inner_filter},
                                                          {DNNL_ARG_DST, part.result},
                                                          {DNNL_ARG_SCRATCHPAD, part.cpu.scratch(desc.scratchpad_desc())}};
      if (with_bias_) arguments.emplace_back(DNNL_ARG_BIAS, part.bias);
      part.call = {part.cpu, dnnl::convolution_forward(desc), arguments};
    }
  }

  void run(KernelContext& c) override {
    for_parts(c.pool(), [&](Part& part) {
      point_images(part, c.in(0), c.out());
      point(part.filter, c.in(1).data<float>());
      if (with_bias_) point(part.bias, c.in(2).data<float>());
      if (part.reorder) part.reorder.run();
      part.call.run();
    });
  }

 private:
  bool with_bias_;
};

/// dx from dy and the filter; the third input gives only its shape.
class Conv2DInputGradKernel final : public ConvolutionKernel {
 public:
  explicit Conv2DInputGradKernel(const NodeInfo& info)
      : ConvolutionKernel(info, info.in[2].shape, info.in[1].shape, info.in[0].shape, share_of(info, info.in[2].shape)) {
    using Backward = dnnl::convolution_backward_data;
    for (Part& part : parts_) {
      const Geometry& g = part.geometry;
      const Backward::desc what(kDirect, g.image, g.any_filter, g.result, g.strides, g.dilations, g.before, g.after);
      const Backward::primitive_desc desc(what, onednn::user_scratchpad(), part.cpu.engine, g.forward(part.cpu, false));
      if (part.set_filter(desc.weights_desc())) part.reorder = part.reordered(part.filter, part.inner_filter);
      part.call = {part.cpu,
                   Backward(desc),
                   {{DNNL_ARG_DIFF_DST, part.result},
                    {DNNL_ARG_WEIGHTS, part.inner_filter},
                    {DNNL_ARG_DIFF_SRC, part.image},
                    {DNNL_ARG_SCRATCHPAD, part.cpu.scratch(desc.scratchpad_desc())}}};
    }
  }

  void run(KernelContext& c) override {
    for_parts(c.pool(), [&](Part& part) {
      point_images(part, c.out(), c.in(0));
      point(part.filter, c.in(1).data<float>());
      if (part.reorder) part.reorder.run();
      part.call.run();
    });
  }
};

/// dfilter, and dbias if asked for, from x and dy; the third input gives only the filter's shape. The images are cut into
/// parts that depend on the shapes only and whose results are added in their order, so the bits do not depend on the
/// number of threads. Parts run as many at a time as there are threads, each into memory of its own, the first into the sum.
class Conv2DFilterGradKernel final : public ConvolutionKernel {
 public:
  explicit Conv2DFilterGradKernel(const NodeInfo& info)
      : ConvolutionKernel(info, info.in[0].shape, info.in[2].shape, info.in[1].shape, images_of_part(info.in[1].shape)),
        with_bias_(info.out.size() == 2),
        threads_(static_cast<std::size_t>(info.pool.threads())) {
    for (std::size_t i = 0; i < parts_.size(); ++i) build(i);
    if (parts_.empty()) return;
    Part& first = parts_[0];
    if (first.inner_filter != first.filter) reorder_ = first.reordered(first.inner_filter, first.filter);
    if (parts_.size() == 1) return;
    for (std::size_t i = 0; i < std::min(threads_, parts_.size()); ++i) {
      partial_.push_back({first.cpu.scratch(first.inner_filter.get_desc()), first.cpu.scratch(first.geometry.bias)});
    }
  }

  void run(KernelContext& c) override {
    const std::size_t results = with_bias_ ? 2 : 1;
    if (parts_.empty()) {
      for (std::size_t i = 0; i < results; ++i) std::fill_n(c.out(i).data<float>(), c.out(i).elements(), 0.f);
      return;
    }
    Part& first = parts_[0];
    point(first.filter, c.out(0).data<float>());
    if (with_bias_) point(first.bias, c.out(1).data<float>());
    for (std::size_t wave = 0; wave < parts_.size(); wave += threads_) {
      const std::size_t count = std::min(threads_, parts_.size() - wave);
      c.pool().parallel_for(static_cast<std::int64_t>(count), 1, [&](std::int64_t begin, std::int64_t end) {
        onednn::use_threads(1);
        for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) run_part(c, wave + i, i);
      });
      add(c.pool(), wave == 0 ? 1 : 0, count);
    }
    if (reorder_) reorder_.run();
  }

 private:
  struct Partial { dnnl::memory filter, bias; };

  /// So few that there are parts for many threads, so many that adding the parts costs little beside computing them.
  static std::int64_t images_of_part(const Shape& y) {
    constexpr std::int64_t kMostParts = 16, kPixels = 512;
    if (y[0] == 0) return 1;
    const std::int64_t parts = std::clamp<std::int64_t>(y[0] * y[1] * y[2] / kPixels, 1, kMostParts);
    return (y[0] + parts - 1) / parts;
  }

  void build(std::size_t i) {
    Part& part = parts_[i];
    const Geometry& g = part.geometry;
    using Backward = dnnl::convolution_backward_weights;
    const Desc filter = i == 0 ? g.any_filter : parts_[0].inner_filter.get_desc();
    const auto what =
        with_bias_ ? Backward::desc(kDirect, g.image, filter, g.bias, g.result, g.strides, g.dilations, g.before, g.after)
                   : Backward::desc(kDirect, g.image, filter, g.result, g.strides, g.dilations, g.before, g.after);
    const auto hint = g.forward(part.cpu, with_bias_);      // next_impl looks at it again
    Backward::primitive_desc desc(what, onednn::user_scratchpad(), part.cpu.engine, hint);
    // oneDNN's own kernel for filters of one pixel writes beyond its scratch memory where it skips pixels (2.6 with AVX2: seen
    // by valgrind for strides 2 and 3): the next best one then.
    while (g.strides[0] > 1 && std::string_view(desc.impl_info_str()).starts_with("jit_1x1") && desc.next_impl()) {}
    if (i == 0) part.set_filter(desc.diff_weights_desc());
    else part.inner_filter = part.cpu.wrap(filter);
    // Parts that never run at the same time share their scratch memory.
    const bool fits = i >= threads_ && desc.scratchpad_desc().get_size() <= scratch_[i - threads_].get_desc().get_size();
    scratch_.push_back(fits ? dnnl::memory(desc.scratchpad_desc(), part.cpu.engine, scratch_[i - threads_].get_data_handle())
                            : part.cpu.scratch(desc.scratchpad_desc()));
    std::vector<std::pair<int, dnnl::memory>> arguments{{DNNL_ARG_SRC, part.image},
                                                        {DNNL_ARG_DIFF_DST, part.result},
                                                        {DNNL_ARG_DIFF_WEIGHTS, part.inner_filter},
                                                        {DNNL_ARG_SCRATCHPAD, scratch_.back()}};
    if (with_bias_) arguments.emplace_back(DNNL_ARG_DIFF_BIAS, part.bias);
    part.call = {part.cpu, Backward(desc), arguments};
  }

  void run_part(KernelContext& c, std::size_t i, std::size_t slot) {
    Part& part = parts_[i];
    if (i > 0) {
      point(part.inner_filter, static_cast<float*>(partial_[slot].filter.get_data_handle()));
      point(part.bias, static_cast<float*>(partial_[slot].bias.get_data_handle()));
    }
    point_images(part, c.in(0), c.in(1));
    part.call.run();
  }

  /// Adds the results that lie in the slots [begin, end) to the sum.
  void add(ThreadPool& pool, std::size_t begin, std::size_t end) {
    constexpr std::int64_t kGrain = 16384;   // elements per thread below which waking a thread costs more
    const auto floats = [](const dnnl::memory& memory) { return static_cast<float*>(memory.get_data_handle()); };
    for (const auto which : {&Partial::filter, &Partial::bias}) {
      if (which == &Partial::bias && !with_bias_) continue;
      const dnnl::memory& into = which == &Partial::filter ? parts_[0].inner_filter : parts_[0].bias;
      const auto n = static_cast<std::int64_t>(into.get_desc().get_size() / sizeof(float));
      for (std::size_t slot = begin; slot < end; ++slot) {
        float* __restrict sum = floats(into);
        const float* __restrict x = floats(partial_[slot].*which);
        pool.parallel_for(n, kGrain, [&](std::int64_t from, std::int64_t to) {
          for (std::int64_t i = from; i < to; ++i) sum[i] += x[i];
        });
      }
    }
  }

  bool with_bias_;
  std::size_t threads_;
  std::vector<Partial> partial_;
  std::vector<dnnl::memory> scratch_;     // by part
  onednn::Call reorder_;
};

void expect_images(const Inference& c, std::initializer_list<std::size_t> inputs) {
  for (const std::size_t i : inputs) {
    c.expect_float(i);
    c.expect_rank(i, 4);
  }
}

void expect_result(const Inference& c, std::size_t dy, const Shape& shape) {
  if (!compatible(c.shape(dy), shape)) {
    c.refuse("input " + std::to_string(dy) + " must have the result's shape " + shape.text());
  }
}

std::vector<Signature> infer_conv(const Inference& c) {
  if (c.inputs() != 3) c.expect_inputs(2);
  expect_images(c, {0, 1});
  if (c.inputs() == 3) {
    c.expect_float(2);
    if (!compatible(c.shape(2), Shape{c.shape(1)[3]})) c.refuse("the bias must have one element per filter");
  }
  return {{DType::float32, infer_output(c, c.shape(0), c.shape(1))}};
}

std::vector<Signature> infer_input_grad(const Inference& c) {
  c.expect_inputs(3);
  expect_images(c, {0, 1, 2});
  expect_result(c, 0, infer_output(c, c.shape(2), c.shape(1)));
  return {c.in(2)};
}

std::vector<Signature> infer_filter_grad(const Inference& c) {
  c.expect_inputs(3);
  expect_images(c, {0, 1, 2});
  expect_result(c, 1, infer_output(c, c.shape(0), c.shape(2)));
  if (!c.attrs.get("bias", false)) return {c.in(2)};
  return {c.in(2), {DType::float32, Shape{c.shape(2)[3]}}};
}

// A convolution is linear in the image and in the filter, so the gradient of each of the three ops is made of the others.
std::vector<Value> gradient_of_conv(const Backward& b) {
  const Value x = b.x(0), filter = b.x(1);
  const bool bias = b.inputs() == 3 && b.wants(2);
  std::vector<Value> d(b.inputs());
  if (b.wants(1) || bias) {
    Attrs attrs = attrs_of(b.attrs);
    attrs.set("bias", bias);
    const Node both = b.graph.add("Conv2DFilterGrad", {x, b.dy(), filter}, attrs);
    d[1] = both[0];
    if (bias) d[2] = both[1];
  }
  if (b.wants(0)) d[0] = b.graph.add("Conv2DInputGrad", {b.dy(), filter, x}, attrs_of(b.attrs));
  return d;
}

std::vector<Value> gradient_of_input_grad(const Backward& b) {
  std::vector<Value> d(3);
  if (b.wants(0)) d[0] = b.graph.add("Conv2D", {b.dy(), b.x(1)}, attrs_of(b.attrs));
  if (b.wants(1)) d[1] = b.graph.add("Conv2DFilterGrad", {b.dy(), b.x(0), b.x(1)}, attrs_of(b.attrs));
  return d;
}

std::vector<Value> gradient_of_filter_grad(const Backward& b) {
  std::vector<Value> d(3);
  if (b.wants(0)) d[0] = b.graph.add("Conv2DInputGrad", {b.x(1), b.dy(0), b.x(0)}, attrs_of(b.attrs));
  if (b.wants(1)) {
    std::vector<Value> inputs{b.x(0), b.dy(0)};
    if (b.attrs.get("bias", false)) inputs.push_back(b.dy(1));
    d[1] = b.graph.add("Conv2D", inputs, attrs_of(b.attrs));
  }
  return d;
}

/// Two for every element of the result and every element of the filter that it meets, padding counted as any image.
double flops_of(const Shape& result, const Shape& filter) {
  return 2.0 * static_cast<double>(result.elements()) * static_cast<double>(filter[0] * filter[1] * filter[2]);
}
double flops_of_conv(std::span<const Signature> in, std::span<const Signature> out, const Attrs&) { return flops_of(out[0].shape, in[1].shape); }
double flops_of_input_grad(std::span<const Signature> in, std::span<const Signature>, const Attrs&) { return flops_of(in[0].shape, in[1].shape); }
double flops_of_filter_grad(std::span<const Signature> in, std::span<const Signature>, const Attrs&) { return flops_of(in[1].shape, in[2].shape); }

Attrs attrs(std::int64_t stride, const char* padding, std::int64_t dilation = 1, std::int64_t groups = 1) {
  return {{"stride", stride}, {"padding", padding}, {"dilation", dilation}, {"groups", groups}};
}

ExampleInput random(const Shape& shape) { return {.shape = shape}; }

const Registered<Op> conv_op{
    "Conv2D",
    {.infer = infer_conv,
     .gradient = gradient_of_conv,
     .examples = {{.in = {random({2, 5, 4, 1}), random({3, 3, 1, 2})}, .attrs = attrs(1, "same")},
                  {.in = {random({2, 5, 5, 3}), random({5, 5, 3, 2}), random({2})}, .attrs = attrs(1, "valid")},
                  {.in = {random({1, 6, 5, 3}), random({3, 2, 3, 4}), random({4})}, .attrs = attrs(2, "same")},
                  {.in = {random({1, 7, 8, 2}), random({2, 3, 2, 3})}, .attrs = attrs(3, "valid")},
                  {.in = {random({1, 7, 7, 2}), random({3, 3, 2, 3}), random({3})}, .attrs = attrs(1, "same", 2)},
                  {.in = {random({2, 4, 4, 4}), random({3, 3, 2, 6}), random({6})}, .attrs = attrs(1, "same", 1, 2)},
                  {.in = {random({1, 5, 5, 3}), random({3, 3, 1, 3})}, .attrs = attrs(2, "same", 1, 3)},
                  {.in = {random({1, 1, 1, 1}), random({1, 1, 1, 1})}, .attrs = attrs(1, "valid")},
                  {.in = {random({0, 4, 4, 1}), random({3, 3, 1, 2})}, .attrs = attrs(1, "same"), .expected = {{}}}},
     .flops = flops_of_conv,
     .products = {0, 1}}};
const RegisteredKernel conv_kernel{"Conv2D", "CPU", onednn::make_kernel<Conv2DKernel>};

const Registered<Op> input_grad_op{
    "Conv2DInputGrad",
    {.infer = infer_input_grad,
     .gradient = gradient_of_input_grad,
     .examples = {{.in = {random({2, 5, 4, 2}), random({3, 3, 1, 2}), random({2, 5, 4, 1})}, .attrs = attrs(1, "same")},
                  {.in = {random({1, 2, 2, 3}), random({2, 3, 2, 3}), random({1, 7, 8, 2})}, .attrs = attrs(3, "valid")},
                  {.in = {random({1, 4, 4, 4}), random({3, 3, 1, 4}), random({1, 4, 4, 2})},
                   .attrs = attrs(1, "same", 2, 2)}},
     .shapes_from = 2,
     .flops = flops_of_input_grad,
     .products = {0, 1}}};
const RegisteredKernel input_grad_kernel{"Conv2DInputGrad", "CPU", onednn::make_kernel<Conv2DInputGradKernel>};

const Registered<Op> filter_grad_op{
    "Conv2DFilterGrad",
    {.infer = infer_filter_grad,
     .gradient = gradient_of_filter_grad,
     .examples = {{.in = {random({2, 5, 4, 1}), random({2, 5, 4, 2}), random({3, 3, 1, 2})}, .attrs = attrs(1, "same")},
                  {.in = {random({1, 7, 8, 2}), random({1, 2, 2, 3}), random({2, 3, 2, 3})},
                   .attrs = {{"stride", 3}, {"padding", "valid"}, {"bias", true}}},
                  {.in = {random({1, 4, 4, 2}), random({1, 4, 4, 4}), random({3, 3, 1, 4})},
                   .attrs = attrs(1, "same", 2, 2)},
                  {.in = {random({0, 2, 2, 1}), random({0, 2, 2, 1}), random({1, 1, 1, 1})},
                   .attrs = {{"padding", "same"}, {"bias", true}},
                   .expected = {{0}, {0}}}},
     .shapes_from = 2,
     .flops = flops_of_filter_grad,
     .products = {0, 1}}};
const RegisteredKernel filter_grad_kernel{"Conv2DFilterGrad", "CPU", onednn::make_kernel<Conv2DFilterGradKernel>};

}  // namespace
}  // namespace cohort
