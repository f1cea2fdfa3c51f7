// Base of decorators: forwards every call, so that one which changes a single call overrides just that.
#pragma once

#include <utility>

#include "server/store/store.h"

namespace lockstep::store {

class ForwardingStore : public Store {
 public:
  // Does not own `target`, which must outlive it.
  explicit ForwardingStore(Store* target) : target_(target) {}

  absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) override {
    return target_->Commit(std::move(batch), expected_revision);
  }
  absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) const override {
    return target_->Get(table, key);
  }
  absl::Status Scan(Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                    Visitor visit) const override {
    return target_->Scan(table, start_key, end_key, limit, visit);
  }
  uint64_t revision() const override { return target_->revision(); }

  Store* target() const { return target_; }

 private:
  Store* const target_;
};

}  // namespace lockstep::store
