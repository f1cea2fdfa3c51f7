// First answers by request id, so that a repeated mutation returns what the first one returned. Kept in the
// store, in the same commit as the change itself.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/migration.h"
#include "server/store/record_codec.h"
#include "server/store/store.h"

namespace lockstep::engine {

// Not thread-safe: the registry calls it under its lock.
class RequestLog {
 public:
  static constexpr absl::Duration kRetention = absl::Hours(24);

  // Owns neither argument.
  RequestLog(store::Store* store, const store::RecordCodec* codec);

  // Reads which requests are remembered.
  absl::Status Recover();

  // The answer of a first request with this id; a null migration inside stands for an empty answer. Nothing:
  // this is the first (or the first is older than kRetention). INVALID_ARGUMENT (reason REQUEST_ID_REUSED)
  // when the id was used for another method or resource.
  struct Answer {
    std::optional<domain::Migration> migration;
  };
  absl::StatusOr<std::optional<Answer>> Find(absl::string_view request_id, absl::string_view method,
                                             absl::string_view resource, absl::Time now) const;

  // Adds the answer to `batch`, and the removal of some that are over. `migration` may be null.
  void Append(absl::string_view request_id, absl::string_view method, absl::string_view resource,
              const domain::Migration* migration, absl::Time now, store::WriteBatch* batch);
  // What Append added is durable.
  void Committed();
  // It is not.
  void Abandoned();

 private:
  store::Store* const store_;
  const store::RecordCodec* const codec_;
  std::deque<std::pair<absl::Time, std::string>> by_expiry_;  // of what is durable, oldest first
  std::optional<std::pair<absl::Time, std::string>> added_;
  size_t removed_ = 0;  // from the front of by_expiry_, by the batch under way
};

}  // namespace lockstep::engine
