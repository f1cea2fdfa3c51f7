// Who is enrolled, and which epochs may still be acted on.
//
// An enrolment is durable and counts until the instance leaves or is evicted, connected or not. What is
// recorded for an instance and a migration is the oldest epoch it may still act on: it may act on every state
// published since. A record is raised by acknowledgements alone, which bring the checks of a held slice with
// them, and lowered when a reconnect claims less. (Whoever accepts what it is sent over a new connection
// acknowledges it again, so that no record stays too low.) An instance that is not known and claims nothing
// starts at the epoch published when it enrols, since it acts only on what it is sent; what one that is not
// known claims is believed, save that it has checked a slice which is held.
//
// Durability: an enrolment is committed before the instance is sent anything, a leave before it is forgotten.
// An acknowledgement is kept in memory at first; it becomes durable in the same commit as the first publish
// that relies on it, or with the next Flush. Losing one is safe: the instance then counts at an older epoch
// until it reconnects. Heartbeats are never written.
//
// Leases. An instance is live while it is heard of at least once per lease_ttl, by the time since boot; after
// a restart of the server every enrolment counts as just renewed. A KEEP_SERVING instance goes on counting
// when its lease is over. A FAIL_WRITES instance writes nothing any more then: ExpireLeases passes it by, and
// the publish rule says for which states that is enough (publish_rule.h). Its connection is cut, so that it
// learns what is published before it writes again. With the new enrolment it counts again: it may write by
// what it is sent then, whenever that arrives within its lease. One that has said that it owes the other side
// writes is not passed by.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/domain/records.h"
#include "server/store/record_codec.h"
#include "server/store/store.h"

namespace lockstep::engine {

struct EnrolRequest {
  std::string instance_id;
  std::string service;
  std::string version;
  std::vector<std::string> migrations;  // full names, existing or not
  // Per migration the oldest epoch it still acts on; empty = fresh start; 0 = one that is not known here.
  std::map<std::string, uint64_t> held;
  uint64_t store_epoch = 0;  // that `held` belongs to; 0 = none
  absl::Duration lease_ttl = domain::kDefaultLeaseTtl;
  domain::LeasePolicy lease_policy = domain::LeasePolicy::kKeepServing;
};

// The epochs of a migration when an instance enrols for it.
struct EpochsAtEnrolment {
  uint64_t published = 0;
  // The newest one that a claim is worth of an instance that nobody here knows.
  uint64_t claimable = 0;
};

enum class LeaseState : uint8_t { kLive, kExpired, kDisconnected };

// Identifies one connection of an instance: what an older connection of the same instance still says is
// ignored.
using ConnectionId = uint64_t;

// One instance as seen by one migration.
struct InstanceView {
  std::string instance_id;
  std::string service;
  std::string version;
  bool connected = false;
  uint64_t sent_epoch = 0;          // newest epoch sent over the present connection; 0 = none
  uint64_t acknowledged_epoch = 0;  // nothing older is acted on any more
  absl::Time enrolled_at = absl::InfinitePast();
  absl::Time last_seen = absl::InfinitePast();  // since a restart of the server: the restart
  std::string last_nack;  // why it last rejected a snapshot; empty = it has accepted one since
  LeaseState lease = LeaseState::kLive;
  domain::LeasePolicy lease_policy = domain::LeasePolicy::kKeepServing;
  absl::Time lease_expires_at = absl::InfinitePast();
  bool passed_by = false;         // as in domain::Enrolment
  bool owes_mirrors = false;      // as in domain::Enrolment
  domain::InstanceStatus status;  // as it last said
  uint64_t accepted_epoch = 0;    // newest one it has said it acts on; 0 = none over the present connection
  std::optional<absl::Duration> accept_delay;  // since its publish, of the newest epoch that it followed to
};

struct InstanceCounts {
  uint64_t connected = 0;     // and heard of within the lease
  uint64_t disconnected = 0;  // enrolled, so fences count them, but not connected
  uint64_t expired = 0;       // of either: not heard of within the lease
};

// Which instances are meant.
enum class Counted : uint8_t {
  kAll,
  kFollowing,  // those that are not passed by
  kPassedBy,
};

// The lowest recorded epochs of a migration's instances, as of one moment; nothing without any.
struct LiveEpochs {
  std::optional<uint64_t> following;  // of those that are not passed by
  std::optional<uint64_t> passed_by;
  std::optional<uint64_t> oldest() const;
};

// Thread-safe. Lock order: the registry's lock, write_mutex_, mutex_. Only the first two are held through a
// commit.
class InstanceTable {
 public:
  // Owns none of the arguments.
  InstanceTable(store::Store* store, const store::RecordCodec* codec, const Clock* clock);
  InstanceTable(const InstanceTable&) = delete;
  InstanceTable& operator=(const InstanceTable&) = delete;

  // Loads the enrolments. Call it once, first.
  absl::Status Recover();

  // Counts the instance from now on. `epochs` are those of each migration of the request that exists; the
  // caller holds the registry's lock, so that no publish falls in between. Durable only after
  // CommitEnrolment.
  ConnectionId Enrol(const EnrolRequest& request, const std::map<std::string, EpochsAtEnrolment>& epochs);
  // Makes the enrolment durable; nothing may be sent to the instance before. On an error the instance goes on
  // being counted (which is safe) and the connection has to be given up.
  absl::Status CommitEnrolment(const std::string& instance_id);

  // NOT_FOUND (reason NOT_ENROLLED) unless the instance is enrolled over this connection.
  absl::Status CheckConnection(const std::string& instance_id, ConnectionId connection) const;

  // What was sent to the instance, for people.
  void NoteSent(const std::string& instance_id, ConnectionId connection, const std::string& migration,
                uint64_t epoch);
  // Raises what is recorded; a lower epoch than recorded changes nothing. Returns the migrations whose record
  // rose. NOT_FOUND (reason NOT_ENROLLED) when the instance is not enrolled over this connection.
  absl::StatusOr<std::vector<std::string>> Acknowledge(const std::string& instance_id,
                                                       ConnectionId connection,
                                                       const std::map<std::string, uint64_t>& held);
  absl::Status Nack(const std::string& instance_id, ConnectionId connection, std::string reason);
  absl::Status Heartbeat(const std::string& instance_id, ConnectionId connection,
                         const domain::InstanceStatus& status);
  // The instance acts on `epochs` (by migration) from now on. `delays`: how long after their publish, where
  // known. Returns the migrations whose epoch is newer than it acted on before, over whichever connection.
  absl::StatusOr<std::vector<std::string>> Accept(const std::string& instance_id, ConnectionId connection,
                                                  const std::map<std::string, uint64_t>& epochs,
                                                  const std::map<std::string, absl::Duration>& delays);
  // The stream ended; the instance goes on being counted. An older connection than the present one is
  // ignored.
  void Disconnected(const std::string& instance_id, ConnectionId connection);
  // Gives the enrolment up, durably. Returns the migrations that it had enrolled for.
  absl::StatusOr<std::vector<std::string>> Leave(const std::string& instance_id, ConnectionId connection);

  // Instances enrolled for `migration`, sorted by id: those after `after` (exclusive; empty = from the
  // start), at most `limit`. Costs no more than what it returns.
  std::vector<InstanceView> List(absl::string_view migration, const std::string& after = "",
                                 size_t limit = std::numeric_limits<size_t>::max()) const;
  // How many they are.
  size_t CountEnrolled(absl::string_view migration) const;
  // NOT_FOUND (reason INSTANCE_NOT_FOUND).
  absl::StatusOr<InstanceView> Find(absl::string_view migration, absl::string_view instance_id) const;
  // Those of List whose recorded epoch is below `epoch`. Costs no more than what it returns.
  std::vector<InstanceView> ListBelow(absl::string_view migration, uint64_t epoch, Counted counted) const;
  // Those of List that a hold of writes would wait for in vain: not connected, not live, passed by, or not at
  // `epoch` yet.
  std::vector<InstanceView> ListNotFollowing(absl::string_view migration, uint64_t epoch,
                                             size_t limit = std::numeric_limits<size_t>::max()) const;
  // Constant time.
  LiveEpochs OldestLiveEpochs(absl::string_view migration) const;
  // OldestLiveEpochs().oldest().
  std::optional<uint64_t> OldestLiveEpoch(absl::string_view migration) const;
  // Of every instance.
  InstanceCounts Counts() const;

  // Nothing is known any more of what any instance acts on: every record becomes 0, durably, with or before
  // what `batch` says. For the start, before anybody enrols. Errors: those of Store::Commit.
  absl::Status ForgetEpochs(store::WriteBatch batch);
  // Passes by the FAIL_WRITES instances whose lease is over. For a periodic call.
  void ExpireLeases();

  // The instances that enrolled for `migration` before it existed (and have no record for it) start at
  // `first_epoch`. Called with the registry's lock held, before anybody can be sent the migration.
  void MigrationCreated(const std::string& migration, uint64_t first_epoch);
  // Records for a deleted migration are dropped; who enrolled for it stays enrolled should it be created
  // again.
  void MigrationDeleted(const std::string& migration);

  // Commits `batch` together with what is not durable yet about the instances of `migration`: the
  // acknowledgements that a publish relies on. Errors: those of Store::Commit.
  absl::StatusOr<uint64_t> CommitWith(absl::string_view migration, store::WriteBatch batch);
  // Commits `batch` together with the end of the instance's enrolment for `migration`, and forgets it: its
  // connection, if there is one, is no longer valid. NOT_FOUND (reason INSTANCE_NOT_FOUND); else those of
  // Store::Commit.
  absl::StatusOr<uint64_t> CommitEviction(absl::string_view migration, const std::string& instance_id,
                                          store::WriteBatch batch);
  // Writes whatever is not durable yet, in one commit. For a periodic call.
  absl::Status Flush();

 private:
  struct Row {
    domain::Enrolment enrolment;
    uint64_t version = 1;          // of `enrolment`
    uint64_t written_version = 0;  // the version that is durable
    bool connected = false;
    ConnectionId connection = 0;                                 // 0: none
    ConnectionId last_connection = 0;                            // the newest there was
    absl::flat_hash_map<std::string, uint64_t> sent_epochs;      // over the present connection
    absl::flat_hash_map<std::string, uint64_t> accepted_epochs;  // over the present connection
    // Over all connections: the newest epoch that it acted on, as far as is known, and how long after its
    // publish it began to.
    absl::flat_hash_map<std::string, uint64_t> followed_epochs;
    absl::flat_hash_map<std::string, absl::Duration> accept_delays;
    absl::Time last_seen = absl::InfinitePast();
    absl::Duration heard_at = absl::ZeroDuration();  // since boot; what the lease counts from
    domain::InstanceStatus status;
    std::string last_nack;
  };
  // The rows of one migration by recorded epoch.
  struct Index {
    std::set<std::string> instances;  // every row enrolled for it
    std::map<uint64_t, std::set<std::string>> following;
    std::map<uint64_t, std::set<std::string>> passed_by;
  };

  using Rows = std::map<std::string, Row>;
  // What a commit holds: instances and the versions of their rows.
  using Written = std::vector<std::pair<std::string, uint64_t>>;

  // NOT_FOUND (reason INSTANCE_NOT_FOUND).
  absl::StatusOr<const Row*> FindEnrolled(absl::string_view migration, absl::string_view instance_id) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<Row*> FindConnected(const std::string& instance_id, ConnectionId connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The same for whoever is just heard of: the lease is renewed.
  absl::StatusOr<Row*> Hear(const std::string& instance_id, ConnectionId connection)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Around every change of what a row is indexed by.
  void AddToIndex(const std::string& instance_id, const Row& row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void RemoveFromIndex(const std::string& instance_id, const Row& row) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool LeaseOver(const Row& row, absl::Duration now) const;
  InstanceView ViewOf(absl::string_view migration, const std::string& instance_id, const Row& row) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void AppendRow(const std::string& instance_id, const Row& row, store::WriteBatch* batch,
                 Written* written) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<uint64_t> CommitRows(store::WriteBatch batch, const Written& written)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_) ABSL_LOCKS_EXCLUDED(mutex_);

  store::Store* const store_;
  const store::RecordCodec* const codec_;
  const Clock* const clock_;

  // Held through every commit of rows, so that an older version of a row can't overwrite a newer one.
  Mutex write_mutex_ ABSL_ACQUIRED_BEFORE(mutex_);
  mutable Mutex mutex_;
  ConnectionId next_connection_ ABSL_GUARDED_BY(mutex_) = 1;
  Rows rows_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Index, std::less<>> by_migration_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::engine
