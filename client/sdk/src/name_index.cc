#include "lockstep/internal/name_index.h"

#include <algorithm>
#include <bit>

namespace lockstep::internal {

NameIndex::NameIndex(const std::vector<Entry>& entries)
    : guesses_(std::bit_ceil(4 * std::max<size_t>(entries.size(), 1))),
      guess_shift_(64 - std::countr_zero(guesses_.size())) {
  for (const Entry& entry : entries) {
    indexes_.emplace(entry.name, entry.index);
    if (entry.name.size() < kLookedAt) continue;
    Entry& guess = guesses_[GuessOf(entry.name)];
    if (guess.name.empty()) guess = entry;
  }
}

const uint32_t* NameIndex::FindByHash(absl::string_view name) const {
  const auto found = indexes_.find(name);
  return found == indexes_.end() ? nullptr : &found->second;
}

}  // namespace lockstep::internal
