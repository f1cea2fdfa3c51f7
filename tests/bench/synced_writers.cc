#include "tests/bench/synced_writers.h"

#include <chrono>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "rocksdb/db.h"

namespace lockstep::bench {
namespace {

// Keys come round again, so that the database stays small.
constexpr uint64_t kKeysPerWriter = 1000;

std::string RandomBytes(Prng* prng, size_t count) {
  std::string bytes;
  while (bytes.size() < count) bytes += static_cast<char>(prng->Below(256));
  return bytes;
}

class RocksDbWriters final : public SyncedWriters {
 public:
  explicit RocksDbWriters(rocksdb::DB* db) : db_(db) {}

  LoadResult Run(int writers, size_t value_bytes, absl::Duration duration) override {
    const auto end = std::chrono::steady_clock::now() + absl::ToChronoNanoseconds(duration);
    std::vector<LoadResult> results(static_cast<size_t>(writers));
    std::vector<std::thread> threads;
    for (size_t writer = 0; writer < results.size(); ++writer) {
      threads.emplace_back(
          [this, writer, value_bytes, end, &results] { results[writer] = Write(writer, value_bytes, end); });
    }
    for (std::thread& thread : threads) thread.join();
    LoadResult total;
    for (const LoadResult& result : results) total.Add(result);
    return total;
  }

 private:
  LoadResult Write(size_t writer, size_t value_bytes, std::chrono::steady_clock::time_point end) {
    Prng prng(writer + 1);
    const std::string value = RandomBytes(&prng, value_bytes);
    rocksdb::WriteOptions synced;
    synced.sync = true;
    LoadResult result;
    auto now = std::chrono::steady_clock::now();
    while (now < end) {
      const auto started = now;
      const rocksdb::Status put =
          db_->Put(synced, absl::StrCat(writer, "/", result.calls % kKeysPerWriter), value);
      now = std::chrono::steady_clock::now();
      if (!put.ok()) {
        result.first_error = absl::UnavailableError(put.ToString());
        break;
      }
      ++result.calls;
      if (now < end) ++result.calls_in_time;
      result.latencies_ns.push_back(static_cast<uint64_t>(std::chrono::nanoseconds(now - started).count()));
    }
    return result;
  }

  const std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<SyncedWriters>> SyncedWriters::Open(const std::string& directory) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.error_if_exists = true;
  // As the store has them.
  options.compression = rocksdb::kNoCompression;
  options.allow_fallocate = false;
  rocksdb::DB* db = nullptr;
  const rocksdb::Status opened = rocksdb::DB::Open(options, directory, &db);
  if (!opened.ok()) return absl::UnavailableError(absl::StrCat("RocksDB: ", opened.ToString()));
  return std::make_unique<RocksDbWriters>(db);
}

}  // namespace lockstep::bench
