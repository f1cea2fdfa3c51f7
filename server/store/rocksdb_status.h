// RocksDB's statuses as ours. Internal to the RocksDB store.
#pragma once

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "rocksdb/status.h"

namespace lockstep::store {

// `what` was being done to the database at `path`. Not for failed writes, whose outcome RocksDB doesn't tell.
//
//   NoSpace              RESOURCE_EXHAUSTED
//   damage, lost files   DATA_LOSS
//   NotSupported         FAILED_PRECONDITION (files of a newer RocksDB)
//   other I/O, busy      UNAVAILABLE
//   anything else        INTERNAL
absl::Status FromRocksDb(const rocksdb::Status& status, absl::string_view what, absl::string_view path);

}  // namespace lockstep::store
