// Which migration a name means, for callers that keep no handle.
//
// Names are told apart by a few of their bytes first, which costs less than hashing them whole; whatever that
// finds is compared in full. Names that these bytes don't tell apart are found in a hash map.
//
// Immutable, so thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace lockstep::internal {

class NameIndex {
 public:
  struct Entry {
    absl::string_view name;
    uint32_t index = 0;
  };

  // The names must outlive the index. Of equal ones the first counts.
  explicit NameIndex(const std::vector<Entry>& entries);

  // Null: there is no such name.
  const uint32_t* Find(absl::string_view name) const {
    if (name.size() >= kLookedAt) {
      const Entry& guess = guesses_[GuessOf(name)];
      if (guess.name == name) return &guess.index;
    }
    return FindByHash(name);
  }

 private:
  static constexpr size_t kLookedAt = sizeof(uint64_t);

  static uint64_t Load(const char* bytes) {
    uint64_t word;
    std::memcpy(&word, bytes, sizeof(word));
    return word;
  }
  // By the length, the end and the middle: the id, and of a full name the namespace.
  size_t GuessOf(absl::string_view name) const {
    const uint64_t end = Load(name.data() + name.size() - kLookedAt);
    const uint64_t middle = Load(name.data() + (name.size() - kLookedAt) / 2);
    constexpr uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 / the golden ratio
    return ((end ^ (middle * kOdd)) + name.size()) * kOdd >> guess_shift_;
  }
  const uint32_t* FindByHash(absl::string_view name) const;

  std::vector<Entry> guesses_;  // 2^(64 - guess_shift_), at least four for each name
  int guess_shift_;
  absl::flat_hash_map<absl::string_view, uint32_t> indexes_;
};

}  // namespace lockstep::internal
