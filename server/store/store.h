// The durable state of a control plane: ordered tables of bytes, changed by atomic commits.
//
//   WriteBatch batch;
//   batch.Put(Table::kMigrations, MigrationKey(name), bytes);
//   batch.Put(Table::kAudit, AuditKey(7), entry);
//   absl::StatusOr<uint64_t> revision = store->Commit(std::move(batch), store->revision());
//
// Implementations: memory_store.h (tests, simulator), rocksdb_store.h (embedded default). All of them pass
// tests/store/store_conformance.h. forwarding_store.h is the base of decorators.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/store/tables.h"

namespace lockstep::store {

inline constexpr size_t kMaxKeyBytes = 4096;
// Of one commit, see WriteBatch::bytes.
inline constexpr size_t kMaxCommitBytes = 16 << 20;
inline constexpr size_t kOperationOverheadBytes = 128;
inline constexpr size_t kNoLimit = std::numeric_limits<size_t>::max();

// Changes that happen together or not at all. Operations are applied in order: the last one on a key wins.
// A plain value; not thread-safe.
class WriteBatch {
 public:
  struct Operation {
    Table table;
    std::string key;
    std::optional<std::string> value;  // nullopt deletes the key

    friend bool operator==(const Operation&, const Operation&) = default;
  };

  // `key` has 1 to kMaxKeyBytes bytes; `value` may be empty.
  void Put(Table table, std::string key, std::string value);
  // Deleting a key that does not exist is fine.
  void Delete(Table table, std::string key);

  bool empty() const { return operations_.empty(); }
  // Keys, values and kOperationOverheadBytes per operation: an upper bound of what it costs in memory and on
  // disk.
  size_t bytes() const { return bytes_; }
  const std::vector<Operation>& operations() const { return operations_; }

  friend bool operator==(const WriteBatch&, const WriteBatch&) = default;

 private:
  std::vector<Operation> operations_;
  size_t bytes_ = 0;
};

// INVALID_ARGUMENT, naming the table, when a key or the whole batch is outside the limits above.
absl::Status ValidateBatch(const WriteBatch& batch);

// Thread-safe. Destroy it only when no call is running.
class Store {
 public:
  // Returns false to end the scan. Must not keep the views. May call the store.
  using Visitor = absl::FunctionRef<bool(absl::string_view key, absl::string_view value)>;

  virtual ~Store() = default;

  // Applies `batch` (an empty one too) atomically and returns the store's new revision, one more than before.
  // When it returns OK, the commit is durable: it survives the death of the process and of the machine.
  // Revisions follow the order in which commits take effect. Concurrent commits share disk syncs.
  //
  // With `expected_revision` the commit happens only if revision() is exactly that at its turn.
  //
  // Errors:
  //   ABORTED             the store is at another revision; nothing was written. Read again, decide again.
  //   INVALID_ARGUMENT    see ValidateBatch; nothing was written.
  //   RESOURCE_EXHAUSTED  the disk is full. This process will not see the commit; commits work again,
  //                       without a restart, when there is space. Should the process die before that, the
  //                       commit is as unknown as any that was running at its death.
  //   UNKNOWN             writing or syncing failed, now or behind the commit before, which had been
  //                       answered and is durable: the commit may or may not be there after a restart.
  //                       Data that a failed sync left in the page cache may look written and never reach the
  //                       disk, so nothing may be built on it: the store stops accepting commits until it is
  //                       opened again, which re-reads what is there and makes it durable.
  //   UNAVAILABLE         the store has stopped accepting commits (see UNKNOWN); nothing was written.
  //   DATA_LOSS           the data on disk is damaged; see the message.
  virtual absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) = 0;

  // nullopt when the key does not exist. Sees every commit that has returned, and possibly a concurrent one.
  // Errors: UNAVAILABLE (the disk cannot be read now), DATA_LOSS (what it holds is damaged).
  virtual absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) const = 0;

  // Visits the entries of [start_key, end_key) in ascending byte order, at most `limit` of them, all as of
  // one moment. An empty `end_key` means to the end of the table. Errors as for Get; entries visited before
  // an error are correct.
  virtual absl::Status Scan(Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                            Visitor visit) const = 0;

  // Number of the last commit that has returned OK or is about to; 0 for a new store.
  virtual uint64_t revision() const = 0;
};

}  // namespace lockstep::store
