// One instance of the example's service: replays its share of the write log as live traffic and serves reads
// to simulated users, all through a Migrator, while it knows nothing about where the migration stands. When
// the log is through it begins again from the start, so that there is write load for as long as it runs; what
// a second round writes is what is there already.
//
// The process may be killed and started again: acknowledged writes are counted in its acknowledgement log,
// and each operation has its own idempotency key, so it goes on where it stopped and repeats harmlessly what
// was in flight. With a state directory it also starts while the control plane is down.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
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
  std::shared_ptr<Transport> transport;    // in place of the one to `address`; null: that one
  std::string instance_id;
  std::string migration = "demo/cities";
  std::string legacy_path;
  std::string modern_path;
  std::string oplog_path;
  std::string acks_path;
  std::string state_directory;  // of the SDK; empty: nothing is kept over a restart
  domain::LeasePolicy lease_policy = domain::LeasePolicy::kKeepServing;
  absl::Duration lease_ttl = domain::kDefaultLeaseTtl;
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
  int64_t failed_writes = 0;    // calls that failed; each was tried again until it was acknowledged
  int64_t held_writes = 0;      // waited for their bucket's authority to move
  int64_t mirror_failures = 0;  // mirror writes that failed: each one becomes a repair, or is a failed one
  int64_t repairs_outstanding = 0;
  absl::Duration longest_held_write = absl::ZeroDuration();
  absl::Duration longest_write = absl::ZeroDuration();  // of the calls that were acknowledged
  bool oplog_done = false;
  // Calls of users that did not get what they asked for at the first attempt.
  int64_t failed_calls() const { return read_errors + failed_writes; }
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
  void DescribeOldSide(CityMigrator::Builder& builder);
  void DescribeNewSide(CityMigrator::Builder& builder);
  absl::StatusOr<WriteResult<CanonicalCity>> CurrentInOld(int64_t id);
  absl::StatusOr<WriteResult<CanonicalCity>> CurrentInNew(int64_t id);
  absl::Status CountFailure(absl::Status mirrored);
  void ReplayWrites(const std::atomic<bool>& stop);
  bool Write(const Operation& operation, int64_t round, const std::atomic<bool>& stop);
  void ServeReads(const std::atomic<bool>& stop);
  void ReadAndCheck(int64_t id);

  // A row as the authority over it has it: the newer of the two sides, since a mirror never gets ahead.
  struct Truth {
    Version version = 0;
    std::optional<CanonicalCity> city;
    bool operator==(const Truth&) const = default;
  };
  absl::StatusOr<Truth> ReadTruth(int64_t id);

  struct Counters {
    std::atomic<int64_t> reads{0}, reads_from_new{0}, read_errors{0}, reads_served_wrong{0},
        reads_served_late{0}, writes_acked{0}, failed_writes{0}, mirror_failures{0}, longest_write_us{0};
    std::atomic<bool> oplog_done{false};
  };

  const ServiceOptions options_;
  std::unique_ptr<LegacyStore> legacy_;
  std::unique_ptr<ModernStore> modern_;
  std::unique_ptr<AckLog> acks_;
  std::vector<Operation> operations_;
  size_t next_write_ = 0;  // the writer thread's: how many were acknowledged, over all rounds
  Counters counters_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<CityMigrator> migrator_;  // before its client goes
};

}  // namespace lockstep::examples
