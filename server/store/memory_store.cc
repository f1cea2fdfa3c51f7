#include "server/store/memory_store.h"

#include <array>
#include <map>
#include <utility>
#include <vector>

#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "server/store/commit_queue.h"

namespace lockstep::store {
namespace {

class MemoryStore final : public Store {
 public:
  absl::StatusOr<uint64_t> Commit(WriteBatch batch, std::optional<uint64_t> expected_revision) override {
    LOCKSTEP_RETURN_IF_ERROR(ValidateBatch(batch));
    return queue_.Commit(batch, expected_revision);
  }

  absl::StatusOr<std::optional<std::string>> Get(Table table, absl::string_view key) const override {
    MutexLock lock(&mutex_);
    const Rows& rows = tables_[static_cast<size_t>(table)];
    const auto found = rows.find(key);
    if (found == rows.end()) return std::optional<std::string>();
    return std::optional<std::string>(found->second);
  }

  absl::Status Scan(Table table, absl::string_view start_key, absl::string_view end_key, size_t limit,
                    Visitor visit) const override {
    // A copy, so that the visitor may call the store and sees one moment.
    for (const auto& [key, value] : Copy(table, start_key, end_key, limit)) {
      if (!visit(key, value)) break;
    }
    return absl::OkStatus();
  }

  uint64_t revision() const override { return queue_.revision(); }

 private:
  using Rows = std::map<std::string, std::string, std::less<>>;

  absl::Status Apply(absl::Span<const WriteBatch* const> batches) {
    MutexLock lock(&mutex_);
    for (const WriteBatch* batch : batches) {
      for (const WriteBatch::Operation& operation : batch->operations()) {
        Rows& rows = tables_[static_cast<size_t>(operation.table)];
        if (operation.value) {
          rows.insert_or_assign(operation.key, *operation.value);
        } else {
          rows.erase(operation.key);
        }
      }
    }
    return absl::OkStatus();
  }

  std::vector<std::pair<std::string, std::string>> Copy(Table table, absl::string_view start_key,
                                                        absl::string_view end_key, size_t limit) const {
    std::vector<std::pair<std::string, std::string>> copy;
    MutexLock lock(&mutex_);
    const Rows& rows = tables_[static_cast<size_t>(table)];
    for (auto row = rows.lower_bound(start_key); row != rows.end() && copy.size() < limit; ++row) {
      if (!end_key.empty() && row->first >= end_key) break;
      copy.push_back(*row);
    }
    return copy;
  }

  mutable Mutex mutex_;
  std::array<Rows, kTables.size()> tables_ ABSL_GUARDED_BY(mutex_);
  CommitQueue queue_{0, kMaxCommitBytes, [this](absl::Span<const WriteBatch* const> batches, uint64_t) {
                       return Apply(batches);
                     }};
};

}  // namespace

std::unique_ptr<Store> NewMemoryStore() { return std::make_unique<MemoryStore>(); }

}  // namespace lockstep::store
