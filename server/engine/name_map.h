// A sorted map from names to values of which a changed copy is cheap, for readers who hold on to one state of
// many migrations while the next ones are made: copies share all but the part that changed.
//
//   NameMap<EntryPtr> next = *now;
//   next.Set("namespaces/shop/migrations/orders", entry);
//
// A copy costs a pointer for every kChunk names, a change the copy of one chunk, a look-up two binary
// searches. A value: a copy never sees what happens to another one. Thread-compatible.
#pragma once

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"

namespace lockstep::engine {

template <typename Value>
class NameMap {
 public:
  using Item = std::pair<std::string, Value>;

  // In the order of names. Valid as long as the map is neither changed nor destroyed.
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = Item;
    using difference_type = std::ptrdiff_t;
    using pointer = const Item*;
    using reference = const Item&;

    const Item& operator*() const { return (*map_->chunks_[chunk_])[item_]; }
    const Item* operator->() const { return &**this; }
    Iterator& operator++() {
      if (++item_ == map_->chunks_[chunk_]->size()) {
        item_ = 0;
        ++chunk_;
      }
      return *this;
    }
    bool operator==(const Iterator&) const = default;

   private:
    friend class NameMap;
    Iterator(const NameMap* map, size_t chunk, size_t item) : map_(map), chunk_(chunk), item_(item) {}
    const NameMap* map_;
    size_t chunk_;
    size_t item_;
  };

  NameMap() = default;
  // `items` are sorted, each name once.
  static NameMap Of(std::vector<Item> items) {
    NameMap map;
    map.size_ = items.size();
    for (size_t from = 0; from < items.size(); from += kChunk / 2) {
      const auto begin = items.begin() + static_cast<std::ptrdiff_t>(from);
      const auto end = items.begin() + static_cast<std::ptrdiff_t>(std::min(items.size(), from + kChunk / 2));
      map.chunks_.push_back(
          std::make_shared<Chunk>(std::make_move_iterator(begin), std::make_move_iterator(end)));
    }
    return map;
  }

  size_t size() const { return size_; }
  Iterator begin() const { return {this, 0, 0}; }
  Iterator end() const { return {this, chunks_.size(), 0}; }
  // The first name that is not before `name`, and the first one after it.
  Iterator LowerBound(absl::string_view name) const { return Bound(name, false); }
  Iterator UpperBound(absl::string_view name) const { return Bound(name, true); }
  // Null when there is no such name.
  const Value* Find(absl::string_view name) const {
    const Iterator at = LowerBound(name);
    return at == end() || at->first != name ? nullptr : &at->second;
  }

  // Puts `value` in the place of what was there.
  void Set(const std::string& name, Value value) {
    const size_t chunk = ChunkOf(name);
    if (chunk == chunks_.size()) return Append(name, std::move(value));
    std::shared_ptr<Chunk> changed = std::make_shared<Chunk>();
    changed->reserve(chunks_[chunk]->size() + 1);
    changed->assign(chunks_[chunk]->begin(), chunks_[chunk]->end());
    const auto at = std::lower_bound(changed->begin(), changed->end(), name, Before);
    if (at != changed->end() && at->first == name) {
      at->second = std::move(value);
    } else {
      changed->insert(at, {name, std::move(value)});
      ++size_;
    }
    if (changed->size() > kChunk) {
      const auto middle = changed->begin() + kChunk / 2;
      chunks_.insert(chunks_.begin() + static_cast<std::ptrdiff_t>(chunk),
                     std::make_shared<Chunk>(changed->begin(), middle));
      chunks_[chunk + 1] = std::make_shared<Chunk>(middle, changed->end());
    } else {
      chunks_[chunk] = std::move(changed);
    }
  }

  void Erase(absl::string_view name) {
    const Iterator at = LowerBound(name);
    if (at == end() || at->first != name) return;
    --size_;
    const auto chunk = chunks_.begin() + static_cast<std::ptrdiff_t>(at.chunk_);
    if ((*chunk)->size() == 1) {
      chunks_.erase(chunk);
      return;
    }
    auto changed = std::make_shared<Chunk>(**chunk);
    changed->erase(changed->begin() + static_cast<std::ptrdiff_t>(at.item_));
    *chunk = std::move(changed);
  }

 private:
  // Of the order of the root of ten thousand.
  static constexpr size_t kChunk = 64;
  using Chunk = std::vector<Item>;  // never empty
  static bool Before(const Item& item, absl::string_view name) { return item.first < name; }

  // The chunk whose last name is the first not before `name`.
  size_t ChunkOf(absl::string_view name) const {
    const auto at = std::lower_bound(
        chunks_.begin(), chunks_.end(), name,
        [](const auto& chunk, absl::string_view wanted) { return chunk->back().first < wanted; });
    return static_cast<size_t>(at - chunks_.begin());
  }

  Iterator Bound(absl::string_view name, bool after) const {
    const size_t chunk = ChunkOf(name);
    if (chunk == chunks_.size()) return end();
    const Chunk& items = *chunks_[chunk];
    const auto at = std::lower_bound(items.begin(), items.end(), name, Before);
    Iterator found(this, chunk, static_cast<size_t>(at - items.begin()));
    if (after && found->first == name) ++found;
    return found;
  }

  // Behind everything.
  void Append(const std::string& name, Value value) {
    ++size_;
    if (chunks_.empty() || chunks_.back()->size() >= kChunk) {
      chunks_.push_back(std::make_shared<Chunk>(Chunk{{name, std::move(value)}}));
      return;
    }
    auto changed = std::make_shared<Chunk>(*chunks_.back());
    changed->emplace_back(name, std::move(value));
    chunks_.back() = std::move(changed);
  }

  std::vector<std::shared_ptr<const Chunk>> chunks_;
  size_t size_ = 0;
};

}  // namespace lockstep::engine
