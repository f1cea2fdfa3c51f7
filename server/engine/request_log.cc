#include "server/engine/request_log.h"

#include <algorithm>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/error_info.h"
#include "core/base/status_macros.h"

namespace lockstep::engine {
namespace {

// How many answers that are over one commit removes.
constexpr size_t kRemovalsPerCommit = 16;

// A row is three lines (method, resource, expiry in microseconds since the epoch), then the encoded migration
// or nothing. None of the three contains a line break.
struct RowParts {
  absl::string_view method;
  absl::string_view resource;
  absl::Time expiry;
  absl::string_view migration;
};

absl::StatusOr<RowParts> ParseRow(absl::string_view bytes) {
  const std::vector<absl::string_view> parts = absl::StrSplit(bytes, absl::MaxSplits('\n', 3));
  int64_t micros = 0;
  if (parts.size() != 4 || !absl::SimpleAtoi(parts[2], &micros)) {
    return absl::DataLossError("a remembered answer by request id is damaged");
  }
  return RowParts{parts[0], parts[1], absl::FromUnixMicros(micros), parts[3]};
}

absl::Status Reused(absl::string_view request_id, const RowParts& first) {
  return WithErrorInfo(
      absl::InvalidArgumentError(absl::StrCat("request_id ", request_id, " was used for ", first.method,
                                              " of ", first.resource, " already: every call needs its own")),
      {.reason = "REQUEST_ID_REUSED",
       .metadata = {{"method", std::string(first.method)}, {"resource", std::string(first.resource)}},
       .field_violations = {{"request_id", "used for another call already"}},
       .precondition_violations = {}});
}

}  // namespace

RequestLog::RequestLog(store::Store* store, const store::RecordCodec* codec) : store_(store), codec_(codec) {}

absl::Status RequestLog::Recover() {
  absl::Status damage;
  LOCKSTEP_RETURN_IF_ERROR(store_->Scan(store::Table::kRequests, "", "", store::kNoLimit,
                                        [&](absl::string_view key, absl::string_view value) {
                                          const absl::StatusOr<RowParts> row = ParseRow(value);
                                          if (!row.ok()) {
                                            damage = row.status();
                                            return false;
                                          }
                                          by_expiry_.emplace_back(row->expiry, key);
                                          return true;
                                        }));
  std::sort(by_expiry_.begin(), by_expiry_.end());
  return damage;
}

absl::StatusOr<std::optional<RequestLog::Answer>> RequestLog::Find(absl::string_view request_id,
                                                                   absl::string_view method,
                                                                   absl::string_view resource,
                                                                   absl::Time now) const {
  LOCKSTEP_ASSIGN_OR_RETURN(const std::optional<std::string> bytes,
                            store_->Get(store::Table::kRequests, store::RequestKey(request_id)));
  if (!bytes) return std::optional<Answer>();
  LOCKSTEP_ASSIGN_OR_RETURN(const RowParts row, ParseRow(*bytes));
  if (row.expiry <= now) return std::optional<Answer>();
  if (row.method != method || row.resource != resource) return Reused(request_id, row);
  Answer answer;
  if (!row.migration.empty()) {
    LOCKSTEP_ASSIGN_OR_RETURN(answer.migration, codec_->DecodeMigration(row.migration));
  }
  return std::make_optional(std::move(answer));
}

void RequestLog::Append(absl::string_view request_id, absl::string_view method, absl::string_view resource,
                        const domain::Migration* migration, absl::Time now, store::WriteBatch* batch) {
  while (removed_ < by_expiry_.size() && removed_ < kRemovalsPerCommit && by_expiry_[removed_].first <= now) {
    batch->Delete(store::Table::kRequests, by_expiry_[removed_].second);
    ++removed_;
  }
  if (request_id.empty()) return;
  const absl::Time expiry = now + kRetention;
  batch->Put(store::Table::kRequests, store::RequestKey(request_id),
             absl::StrCat(method, "\n", resource, "\n", absl::ToUnixMicros(expiry), "\n",
                          migration == nullptr ? "" : codec_->Encode(*migration)));
  added_.emplace(expiry, store::RequestKey(request_id));
}

void RequestLog::Committed() {
  by_expiry_.erase(by_expiry_.begin(), by_expiry_.begin() + static_cast<ptrdiff_t>(removed_));
  if (added_) by_expiry_.push_back(*std::move(added_));
  Abandoned();
}

void RequestLog::Abandoned() {
  removed_ = 0;
  added_.reset();
}

}  // namespace lockstep::engine
