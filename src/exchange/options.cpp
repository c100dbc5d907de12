#include "cohort/exchange/options.hpp"

namespace cohort {

ExchangeOptions::ExchangeOptions(Section& section) : collective(section) {
  section.bind("rank_order", collective.rank_order, "sum every element in rank order, whatever the bucket: collectives that cannot are refused");
  section.bind("first_bucket_mib", first_bucket_mib, "size of the first bucket, small so that communication starts early (MiB)", above(0, 1 << 20));
  section.bind("bucket_mib", bucket_mib, "size of every other bucket (MiB)", above(0, 1 << 20));
  section.bind("shared_parameters", shared_parameters, "ranks of a machine keep one copy of the parameters and update a share each, where they can");
  section.bind("thread", thread,
               "drive the exchange from a thread of its own; auto: where MPI allows it and the rank has a core beside those of "
               "its kernels",
               one_of({"auto", "on", "off"}));
  section.bind("dense_steps", dense_steps, "with a codec that is not exact: first steps of the training that go in float32", at_least(0));
  section.bind("error_feedback", error_feedback, "keep what the codec loses and add it to the next gradient; auto: with int8",
               one_of({"auto", "on", "off"}));
  section.bind("small_codec", small_codec_name, "with a codec that is not exact: how tensors of one dimension and small ones travel",
               one_of(Registry<CodecType>::instance().names()));
  section.bind("small_elements", small_elements, "tensors with fewer elements are small", at_least(0));
}

bool ExchangeOptions::is_small(const Shape& shape) const {
  if (collective.codec == nullptr || collective.codec->exact() || small_codec_name == collective.codec_name) return false;
  return shape.rank() < 2 || shape.elements() < small_elements;
}

}  // namespace cohort
