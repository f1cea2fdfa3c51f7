// What a Migrator's callbacks get and return, and its options.
#pragma once

#include <cstdint>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "core/domain/routing_state.h"
#include "lockstep/read_token.h"
#include "lockstep/version_guard.h"

namespace lockstep {

enum class ReadPurpose : uint8_t {
  kServe,    // the caller waits for it
  kCompare,  // off the request path; may be read from a replica only if that replica is never behind its own
             // writes
  kRepair,   // to bring the mirror up to date: must see every acknowledged write
};

struct ReadContext {
  uint64_t epoch = 0;
  domain::Side side = domain::Side::kOld;
  ReadPurpose purpose = ReadPurpose::kServe;
  absl::Time deadline = absl::InfiniteFuture();
};

struct WriteContext {
  uint64_t epoch = 0;
  domain::Side side = domain::Side::kOld;  // the side written by this call
  // The same for the authoritative write, its mirror, and every retry of either.
  std::string idempotency_key;
  absl::Time deadline = absl::InfiniteFuture();
};

// A record as one side has it: `row` is empty when it is deleted or never was. `version` is what the side
// gave to that state, of a tombstone too; 0 for a record that never was.
template <typename Record>
struct WriteResult {
  Version version = 0;
  std::optional<Record> row;
  ReadToken token = {};  // filled in by Migrator, for ReadOptions::after; callbacks leave it alone
};

// What a failed mirror write does to the call.
enum class MirrorFailurePolicy : uint8_t {
  // kFailCall from CANARY_READ on, where somebody may read the mirror; kRepair below.
  kByStage,
  // The call fails with the mirror's error, and the repair is queued all the same: the authoritative write
  // stands.
  kFailCall,
  // The call succeeds, and the repair is queued. When the queue is full the call fails.
  kRepair,
};

// When the mirror is written.
enum class MirrorMode : uint8_t {
  kWriteThrough,  // before the call returns
  // In DUAL_WRITE and SHADOW_READ after the call has returned, from a queue that holds the epoch until it is
  // empty (ClientOptions::max_outstanding_repairs; when it is full the call writes through). From CANARY_READ
  // on as kWriteThrough, because somebody may read the mirror. With a journal the queue survives the process
  // and the machine, for a disk sync before the call is answered (one for several calls at once); without
  // one, what is in it is lost with the process, as repairs are.
  kWriteBehind,
};

// Whether mirrors that are open are noted on disk, so that they are repaired after a restart.
enum class JournalMode : uint8_t {
  // If the client has a state directory. Needs KeyCodec, CurrentOld, and with WriteNew also CurrentNew.
  kWhenStateDirectory,
  // A write that is cut off between its two sides by a crash stays on one side until a verification sweep
  // finds it.
  kOff,
};

struct ReadOptions {
  const domain::Attributes* attributes = nullptr;  // for attribute rules; used only during the call
  absl::Time deadline = absl::InfiniteFuture();
  std::string trace_id;  // W3C trace id, for mismatch samples
  // Whom the read concerns, where that is known only with the request. Empty: as Builder::Subject says.
  std::string subject;
  // Read your writes: the answer is at least as new as this write, although the key may be routed to the side
  // that was its mirror and did not have it when the write returned. Such a read goes to the authoritative
  // side, unless CurrentOld or CurrentNew shows that the mirror has it by now.
  ReadToken after = {};
};

struct WriteOptions {
  const domain::Attributes* attributes = nullptr;
  absl::Time deadline = absl::InfiniteFuture();
  std::string idempotency_key;  // empty: one is made
  // Gives the call up: before the authoritative write nothing is written, and a held write stops waiting.
  // After it, the mirror counts as failed, its repair is queued, and the call says that the authoritative
  // write stands. CANCELLED.
  std::stop_token stop = {};
};

struct MigratorOptions {
  // For a shadow read, from its start. Later answers count as timeouts.
  absl::Duration comparison_deadline = absl::Seconds(1);
  // Comparisons admitted and not finished, waiting and settling ones included; more are shed and counted.
  int max_comparisons_in_flight = 64;
  // On a mismatch both sides are read again after each of these; empty: no settling.
  std::vector<absl::Duration> settle_delays = {absl::Milliseconds(20), absl::Milliseconds(60),
                                               absl::Milliseconds(180)};
  // After this share of the comparisons, in [0, 1], both sides are read once more, back to back in random
  // order, and timed (METRIC_PAIRED_LATENCY); at 0.05 that adds 5 % to the reads that comparisons make of the
  // shadow side, and as many of the served one. Each read has comparison_deadline; one that doesn't end in
  // time counts as the slower one of the two, and a pair with another error does not count.
  double paired_latency_share = 0.05;
  // For a mirror write, from its start, and never beyond the call's own deadline. Also for each repair
  // attempt.
  absl::Duration mirror_deadline = absl::Seconds(1);
  MirrorFailurePolicy mirror_failure = MirrorFailurePolicy::kByStage;
  // A failed repair waits a random time between 0 and min(max, initial * 2^attempts).
  absl::Duration repair_backoff_initial = absl::Milliseconds(50);
  absl::Duration repair_backoff_max = absl::Seconds(5);
  MirrorMode mirror_mode = MirrorMode::kWriteThrough;
  // Mirror writes of calls at a time; what is beyond it is shed: it isn't attempted and goes to the repair
  // queue.
  int max_mirrors_in_flight = 256;
  // After so many failures in a row of mirror writes to one side, these are shed, and comparisons that would
  // read it, too, but for one probe in each breaker_probe_interval, until one succeeds.
  int breaker_failures = 5;
  absl::Duration breaker_probe_interval = absl::Seconds(1);
  // How long a write waits while the authority over its bucket is moving, at most; its own deadline may be
  // earlier.
  absl::Duration max_hold_wait = absl::Seconds(10);
  JournalMode journal = JournalMode::kWhenStateDirectory;
  // Tells apart the journal's entries of several Migrators for one migration (one for each table, say) that
  // have other keys. At most 63 bytes. Don't change it while entries are open: they would wait for a Migrator
  // of the old kind.
  std::string journal_kind;
};

}  // namespace lockstep
