// One instance of the example's service: replays its share of the write log as live traffic and serves reads
// to simulated users, all through a Migrator, while it knows nothing about where the migration stands.
//
// The process may be killed and started again: acknowledged writes are counted in its acknowledgement log,
// and each operation has its own idempotency key, so it goes on where it stopped and repeats harmlessly what
// was in flight.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/examples/cities/ack_log.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/mapper.h"
#include "client/examples/cities/modern_store.h"
#include "client/examples/cities/oplog.h"
#include "lockstep/client.h"
#include "lockstep/migrator.h"

namespace lockstep::examples {

struct ServiceOptions {
  std::string address = "127.0.0.1:7420";  // of lockstepd
  std::string instance_id;
  std::string migration = "demo/cities";
  std::string legacy_path;
  std::string modern_path;
  std::string oplog_path;
  std::string acks_path;
  MapperVersion mapper = MapperVersion::kCorrect;
  double writes_per_second = 100;
  double reads_per_second = 500;
  int64_t id_count = 0;  // reads draw ids from 1..id_count
  double zipf_exponent = 1.0;
  uint64_t seed = 1;
};

// What the users of this instance saw. All counts since the start of the process.
struct ServiceReport {
  int64_t reads = 0;
  int64_t reads_from_new = 0;
  int64_t read_errors = 0;
  int64_t reads_served_wrong = 0;  // differed from the authoritative row, and went on differing
  int64_t reads_served_late = 0;   // differed for a moment: the mirror write was on its way
  int64_t writes_acked = 0;
  int64_t write_retries = 0;
  bool oplog_done = false;
  std::string ToJson() const;
};

// Thread-safe.
class CitiesService {
 public:
  // Opens both stores and connects. Errors are those of the stores and of Client::Create.
  static absl::StatusOr<std::unique_ptr<CitiesService>> Create(const ServiceOptions& options);
  ~CitiesService();

  // Blocks until `stop`; then shuts the client down. OK when nothing is left behind.
  absl::Status Run(const std::atomic<bool>& stop);

  ServiceReport Report() const;

 private:
  using CityMigrator = Migrator<int64_t, CanonicalCity>;

  explicit CitiesService(const ServiceOptions& options) : options_(options) {}
  absl::Status BuildMigrator();
  void ReplayWrites(const std::atomic<bool>& stop);
  bool Write(const Operation& operation, const std::atomic<bool>& stop);
  void ServeReads(const std::atomic<bool>& stop);
  void ReadAndCheck(int64_t id);

  struct Counters {
    std::atomic<int64_t> reads{0}, reads_from_new{0}, read_errors{0}, reads_served_wrong{0},
        reads_served_late{0}, writes_acked{0}, write_retries{0};
    std::atomic<bool> oplog_done{false};
  };

  const ServiceOptions options_;
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
  std::unique_ptr<AckLog> acks_;
  std::vector<Operation> operations_;
  size_t next_operation_ = 0;  // the writer thread's
  Counters counters_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<CityMigrator> migrator_;  // before its client goes
};

}  // namespace lockstep::examples
