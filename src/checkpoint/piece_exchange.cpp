#include "checkpoint/piece_exchange.hpp"

#include <algorithm>
#include <optional>
#include <vector>

namespace cohort {
namespace {

constexpr int kPieceTag = 29999;              // beside that of the communicator's collectives; nobody sends anything else while a state is loaded

/// What a rank has just read, and what it wants, of one tensor.
struct Offer {
  FlatRange has, wants;
  std::uint32_t crc = 0, unused = 0;
};

/// The elements that each rank has read go to those that want them.
void deliver(LoadGroup& group, std::span<const Offer> offers, const Tensor& read, const Tensor& kept) {
  const auto me = static_cast<std::size_t>(group.rank());
  copy_overlap(read, offers[me].has.begin, offers[me].wants, kept.data<float>());
  std::vector<Transfer> transfers;
  const auto at = [](const Tensor& tensor, std::int64_t first, FlatRange part) { return tensor.data<float>() + (part.begin - first); };
  const auto bytes = [](FlatRange part) { return static_cast<std::size_t>(part.n) * sizeof(float); };
  for (std::size_t rank = 0; rank < offers.size(); ++rank) {
    if (rank == me) continue;
    const FlatRange out = overlap(offers[me].has, offers[rank].wants), in = overlap(offers[rank].has, offers[me].wants);
    const int peer = static_cast<int>(rank);
    if (in.n > 0) transfers.emplace_back(group.ranks().transport()).receive(peer, kPieceTag, at(kept, offers[me].wants.begin, in), bytes(in));
    if (out.n > 0) transfers.emplace_back(group.ranks().transport()).send(peer, kPieceTag, at(read, offers[me].has.begin, out), bytes(out));
  }
  if (transfers.empty()) return;
  group.ranks().wait(WaitStatus{.operation = "pieces of a checkpoint"},
                     [&] { return std::ranges::all_of(transfers, [](Transfer& transfer) { return transfer.done(); }); });
}

}  // namespace

void read_in_pieces(LoadGroup& group, const PartsOfIndex& index, std::span<TensorInPieces> tensors) {
  std::vector<TensorCover> covers(tensors.size());
  if (tensors.empty()) return;
  for (std::int64_t first = 0; first < index.ranks; first += group.size()) {
    const std::int64_t number = first + group.rank();
    std::optional<PartFile> file;        // this rank's in this round, where there is one for it
    group.on_all([&] {
      if (number < index.ranks) file.emplace(index, number);
    });
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const TensorInPieces& tensor = tensors[t];
      PartFile::Contents contents{.values = Tensor(host(), DType::float32, {0})};
      group.on_all([&] {
        if (file) contents = file->intact(tensor.name, tensor.whole);
      });
      const std::vector<Offer> offers = group.gather(Offer{.has = contents.piece.range, .wants = tensor.wanted, .crc = contents.piece.crc});
      for (const Offer& offer : offers) covers[t].add({offer.has, offer.crc});
      deliver(group, offers, contents.values, tensor.kept);
    }
  }
  group.on_all([&] {
    for (std::size_t t = 0; t < tensors.size(); ++t) {
      const auto refuse = [&](const char* why) { fail(Code::data_loss, damage_text(index.index.string(), tensors[t].name, why)); };
      if (!covers[t].is_whole(tensors[t].whole.elements())) refuse(kPiecesMissing);
      if (covers[t].crc() != tensors[t].crc) refuse(kWrongWholeCrc);
    }
  });
}

}  // namespace cohort
