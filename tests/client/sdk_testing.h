// Shared by the tests of Migrator: stores in memory that follow the callbacks' contract and note every call.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/mutex.h"
#include "core/domain/bucketing.h"
#include "lockstep/migrator.h"
#include "tests/client/plane_testing.h"

namespace lockstep::testing_support {

struct Order {
  int64_t total = 0;
  std::string customer;
  bool operator==(const Order&) const = default;
};

inline RecordView FieldsOf(const Order& order) {
  return {{"customer", order.customer}, {"total", order.total}};
}

// What both stores were asked, in order: "old.read", "new.mirror@3", ...
class CallLog {
 public:
  void Add(std::string call) {
    MutexLock lock(&mutex_);
    calls_.push_back(std::move(call));
  }
  std::vector<std::string> Take() {
    MutexLock lock(&mutex_);
    return std::exchange(calls_, {});
  }

 private:
  Mutex mutex_;
  std::vector<std::string> calls_ ABSL_GUARDED_BY(mutex_);
};

// One side. Thread-safe.
class Store {
 public:
  Store(std::string name, CallLog* log) : name_(std::move(name)), log_(log) {}

  absl::StatusOr<std::optional<Order>> Read(int64_t id) {
    log_->Add(name_ + ".read");
    MutexLock lock(&mutex_);
    if (!read_status_.ok()) return read_status_;
    if (on_read_) on_read_();
    const auto row = rows_.find(id);
    if (row == rows_.end()) return std::optional<Order>();
    return row->second.row;
  }

  absl::StatusOr<WriteResult<Order>> Write(int64_t id, const Order* order, const WriteContext& context) {
    MutexLock lock(&mutex_);
    log_->Add(name_ + (order == nullptr ? ".delete" : ".write"));
    last_idempotency_key_ = context.idempotency_key;
    if (!write_status_.ok() && !fails_after_writing_) return write_status_;
    WriteResult<Order>& row = rows_[id];
    ++row.version;
    row.row = order == nullptr ? std::nullopt : std::optional<Order>(*order);
    if (!write_status_.ok()) return write_status_;
    return row;
  }

  absl::Status Mirror(int64_t id, const Order* order, Version version, const WriteContext& context) {
    MutexLock lock(&mutex_);
    log_->Add(absl::StrCat(name_, ".mirror", order == nullptr ? "-tombstone" : "", "@", version));
    last_idempotency_key_ = context.idempotency_key;
    if (!mirror_status_.ok()) return mirror_status_;
    const auto row = rows_.find(id);
    if (ShouldApply(row == rows_.end() ? std::nullopt : std::optional<Version>(row->second.version),
                    version)) {
      rows_[id] = {version, order == nullptr ? std::nullopt : std::optional<Order>(*order)};
    }
    return absl::OkStatus();
  }

  absl::StatusOr<WriteResult<Order>> Current(int64_t id) {
    log_->Add(name_ + ".current");
    MutexLock lock(&mutex_);
    if (!read_status_.ok()) return read_status_;
    const auto row = rows_.find(id);
    return row == rows_.end() ? WriteResult<Order>() : row->second;
  }

  void FailReads(absl::Status status) {
    MutexLock lock(&mutex_);
    read_status_ = std::move(status);
  }
  void FailWrites(absl::Status status, bool after_writing = false) {
    MutexLock lock(&mutex_);
    write_status_ = std::move(status);
    fails_after_writing_ = after_writing;
  }
  void FailMirrors(absl::Status status) {
    MutexLock lock(&mutex_);
    mirror_status_ = std::move(status);
  }
  // Called within each read; may not call back.
  void OnRead(std::function<void()> hook) {
    MutexLock lock(&mutex_);
    on_read_ = std::move(hook);
  }
  void Put(int64_t id, Version version, std::optional<Order> order) {
    MutexLock lock(&mutex_);
    rows_[id] = {version, std::move(order)};
  }
  std::optional<WriteResult<Order>> Get(int64_t id) {
    MutexLock lock(&mutex_);
    const auto row = rows_.find(id);
    if (row == rows_.end()) return std::nullopt;
    return row->second;
  }
  std::string last_idempotency_key() {
    MutexLock lock(&mutex_);
    return last_idempotency_key_;
  }

 private:
  const std::string name_;
  CallLog* const log_;
  Mutex mutex_;
  std::map<int64_t, WriteResult<Order>> rows_ ABSL_GUARDED_BY(mutex_);
  absl::Status read_status_ ABSL_GUARDED_BY(mutex_);
  absl::Status write_status_ ABSL_GUARDED_BY(mutex_);
  absl::Status mirror_status_ ABSL_GUARDED_BY(mutex_);
  bool fails_after_writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::function<void()> on_read_ ABSL_GUARDED_BY(mutex_);
  std::string last_idempotency_key_ ABSL_GUARDED_BY(mutex_);
};

using OrderMigrator = Migrator<int64_t, Order>;

// A builder with every callback of the two stores, CurrentOld and CurrentNew left out.
inline OrderMigrator::Builder BuilderOver(Client* client, Store* old_store, Store* new_store) {
  OrderMigrator::Builder builder(client, kMigration);
  builder.RoutingKey([](const int64_t& id) { return absl::StrCat(id); })
      .ReadOld([=](const int64_t& id, const ReadContext&) { return old_store->Read(id); })
      .ReadNew([=](const int64_t& id, const ReadContext&) { return new_store->Read(id); })
      .WriteOld([=](const int64_t& id, const Order* order, const WriteContext& context) {
        return old_store->Write(id, order, context);
      })
      .WriteNew([=](const int64_t& id, const Order* order, const WriteContext& context) {
        return new_store->Write(id, order, context);
      })
      .MirrorToOld([=](const int64_t& id, const Order* order, Version version, const WriteContext& context) {
        return old_store->Mirror(id, order, version, context);
      })
      .MirrorToNew([=](const int64_t& id, const Order* order, Version version, const WriteContext& context) {
        return new_store->Mirror(id, order, version, context);
      })
      .Fields(FieldsOf);
  return builder;
}

}  // namespace lockstep::testing_support
