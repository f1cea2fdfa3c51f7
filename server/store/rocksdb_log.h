// RocksDB's warnings and errors in the server's own log. Internal to the RocksDB store.
//
// Never leave RocksDB its default log, a file beside the database: Debian's build has assertions on and
// aborts the process when that file meets a full disk.
#pragma once

#include <memory>

#include "rocksdb/env.h"

namespace lockstep::store {

std::shared_ptr<rocksdb::Logger> NewRocksDbLog();

}  // namespace lockstep::store
