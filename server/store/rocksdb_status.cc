#include "server/store/rocksdb_status.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace lockstep::store {

absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what, absl::string_view path) {
  if (status.ok()) return absl::OkStatus();
  const std::string message = absl::StrCat(what, " ", path, ": ", status.ToString());
  if (status.IsNoSpace()) {
    return absl::ResourceExhaustedError(absl::StrCat(message, "; the disk is full, free space on it"));
  }
  if (status.IsCorruption() || status.IsNotFound() || status.IsPathNotFound()) {
    return absl::DataLossError(absl::StrCat(message, "; the database is damaged, restore it from a backup"));
  }
  if (status.IsNotSupported()) {
    return absl::FailedPreconditionError(absl::StrCat(message, "; written by a newer RocksDB?"));
  }
  if (status.IsIOError() || status.IsBusy() || status.IsTryAgain() || status.IsTimedOut() ||
      status.IsIncomplete() || status.IsShutdownInProgress()) {
    return absl::UnavailableError(message);
  }
  return absl::InternalError(message);
}

}  // namespace lockstep::store
