// The migrations: the one write funnel, and the current state for readers.
//
// Every change (admin calls, the gate's verdicts, publishes that became possible) is built by domain::Plan or
// from an edit of the definition, and goes through Registry::Apply: one synced commit of {migration, decision
// record, audit entry, answer by request id, acknowledgements that it relies on}; then readers and the
// snapshot hub see it, in the same order, since all of that happens under one lock.
//
// Publishing. A goal is reached hop by hop (domain/next_hop.h), mostly by one. A hop gets the next epoch and
// is published at once if it may coexist with everything that may still be acted on (publish_rule.h); until
// the goal is reached it is committed as `pending`, and each acknowledgement, leave, eviction or expiry that
// removes the last obstacle publishes the next hop. A later goal (a rollback, say) replaces a pending one. An
// epoch is durable before anybody is sent it.
//
// Holds. A hop that begins to hold writes waits, besides, until every instance is known to follow; a hold
// that lasts longer than the plan allows is released, and the goal stays pending. Neither has to do with
// safety.
//
// Errors, with ErrorInfo reasons:
//   NOT_FOUND           MIGRATION_NOT_FOUND
//   ALREADY_EXISTS      MIGRATION_ALREADY_EXISTS
//   ABORTED             ETAG_MISMATCH (metadata "etag": the present one); nothing was written
//   INVALID_ARGUMENT    INVALID_ARGUMENT with field violations; REQUEST_ID_REUSED
//   FAILED_PRECONDITION what domain::Plan refuses; PLAN_IN_USE and FENCE_WAITS (update);
//                       MIGRATION_ACTIVE and MIGRATION_IN_USE (delete)
//                       DATA_BEHIND: an instance has seen epochs that are missing here
//   UNAVAILABLE         STORE_FAILED: a commit's outcome is unknown, so nothing can be built on the state in
//   memory.
//                       health() says so, and the process has to be restarted.
//   others              from the store, unchanged; nothing was changed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "core/domain/compatibility.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"
#include "core/domain/transition.h"
#include "server/engine/change_notifier.h"
#include "server/engine/evidence_timeline.h"
#include "server/engine/instance_table.h"
#include "server/engine/migration_history.h"
#include "server/engine/migration_view.h"
#include "server/engine/mutation_context.h"
#include "server/engine/name_map.h"
#include "server/engine/publish_rule.h"
#include "server/engine/request_log.h"
#include "server/engine/snapshot_hub.h"
#include "server/store/record_codec.h"
#include "server/store/store.h"

namespace lockstep::engine {

// What a person writes when creating a migration. Names, labels, owners and description are taken as
// validated.
struct MigrationDefinition {
  std::string name;  // full name
  std::string description;
  std::map<std::string, std::string> labels;
  std::vector<std::string> owners;
  std::string salt;  // empty = the uid
  domain::MigrationPlan plan;
  domain::Contract contract;  // `revision` is ignored
  domain::Pins pins;
};

// Fields to replace; unset ones stay.
struct MigrationUpdate {
  std::optional<std::string> description;
  std::optional<std::map<std::string, std::string>> labels;
  std::optional<std::vector<std::string>> owners;
  // While a step is under way, the new plan must have a step at the same index with the same stage and
  // weight. Raises plan_revision, and evidence starts anew.
  std::optional<domain::MigrationPlan> plan;
  // Raises contract.revision and publishes a new epoch; evidence starts anew.
  std::optional<domain::Contract> contract;
  // Publishes a new epoch.
  std::optional<domain::Pins> pins;
};

// What the telemetry aggregator needs to know about a migration.
struct TelemetryTarget {
  uint64_t generation = 0;
  uint64_t contract_revision = 0;
  uint64_t first_evidence_epoch = 0;                   // EvidenceTimeline::first_epoch
  absl::Time evidence_begin = absl::InfiniteFuture();  // EvidenceTimeline::begin
};

struct TransitionCount {
  domain::Stage from = domain::Stage::kOff;
  domain::Stage to = domain::Stage::kOff;
  std::string actor;  // "gate", "fence" or "operator": names of people make no good label
  uint64_t count = 0;
};

// An instance that was evicted.
struct Eviction {
  MigrationView view;     // afterwards
  InstanceView instance;  // before
  // What may go wrong if the instance still acts, in words.
  std::vector<std::string> risks;
};

// A state handed out for unary decisions.
struct RemoteRouting {
  std::shared_ptr<const domain::MigrationRouting> routing;  // never null
  absl::Duration valid_for = absl::ZeroDuration();          // fences count it for this long
};

// Thread-safe. Lock order: mutex_ before the instance table's and the hub's locks, all before view_mutex_.
// Readers take view_mutex_ for the length of a pointer copy and never wait for a commit.
class Registry {
 public:
  struct Options {
    // The data was restored from a backup: a new store epoch begins.
    bool new_store_epoch = false;
    // How long a remote decision may be acted on after it was given.
    absl::Duration remote_decision_validity = absl::Seconds(5);
    // After a restored backup instances that enrolled after it was taken are given so long to enrol again.
    absl::Duration await_unknown = domain::kMaxLeaseTtl + absl::Minutes(1);
  };

  // Owns none of the arguments. `seed` feeds the uids.
  Registry(store::Store* store, const store::RecordCodec* codec, const Clock* clock, uint64_t seed,
           InstanceTable* instances, SnapshotHub* hub, Options options);
  Registry(const Registry&) = delete;
  Registry& operator=(const Registry&) = delete;

  // Loads everything and publishes the snapshot. Call it once, after InstanceTable::Recover and before
  // anything else. Remote decisions that a former process gave are taken as given now. DATA_LOSS when a
  // record is damaged. It takes as long as there are migrations: of their past, and of the audit log, it
  // reads no more than where they end.
  absl::Status Recover();

  // OK, or why no change is possible any more (see UNAVAILABLE above).
  absl::Status health() const;

  // Readers.
  absl::StatusOr<MigrationView> Get(absl::string_view name) const;
  // Sorted by name, those after `after` (exclusive; empty = from the start), at most `limit`. `ns` empty =
  // all namespaces.
  std::vector<MigrationView> List(absl::string_view ns, absl::string_view after, size_t limit) const;
  // Newest first: those with numbers below `before` (0 = from the newest), at most `limit`.
  absl::StatusOr<std::vector<domain::DecisionRecord>> ListDecisions(absl::string_view name, uint64_t before,
                                                                    size_t limit) const;
  // `wake` is called after every change of the migration's state or of its gate's result; then read it with
  // Get, which is NOT_FOUND once it is deleted. For `wake` see ChangeNotifier::Listen.
  std::unique_ptr<Listener> Watch(const std::string& name, std::function<void()> wake);

  // Mutations. What they return is the migration after the change.
  absl::StatusOr<MigrationView> Create(const MigrationDefinition& definition, const MutationContext& context);
  absl::StatusOr<MigrationView> Update(absl::string_view name, const MigrationUpdate& update,
                                       const MutationContext& context);
  // FAILED_PRECONDITION unless the stage is OFF or COMPLETE and nothing is pending (reason MIGRATION_ACTIVE),
  // and while enrolled instances may act on anything but OFF (reason MIGRATION_IN_USE).
  absl::Status Delete(absl::string_view name, const MutationContext& context);
  // `command.reason` is taken from the context when empty.
  absl::StatusOr<MigrationView> Execute(absl::string_view name, domain::Command command,
                                        const MutationContext& context);

  // Keeps `evaluation` as the newest one and does what it asks for. It was made for `version` of the
  // migration; if that is no longer the current one it is dropped (the next tick makes another). What follows
  // from it is recorded as decided at its time. Returns whether the migration changed.
  absl::StatusOr<bool> ApplyVerdict(absl::string_view name, uint64_t version,
                                    std::shared_ptr<const GateEvaluation> evaluation);

  // Evidence that began before `begun_before` begins anew, by a decision record with this reason; routing
  // stays as it is. Does nothing to evidence that began later, or to a migration that is gone.
  absl::Status RenewEvidence(absl::string_view name, absl::Time begun_before, const std::string& reason);

  // Publishes what is pending if nothing stands in the way any more. Fine to call at any time, for any name.
  absl::Status PublishIfPossible(absl::string_view name);
  // Whether it is on its way to a goal or holds writes, so that PublishIfPossible might have something to do
  // and wait for the disk. False when there is none of that name.
  bool IsMoving(absl::string_view name) const;
  // PublishIfPossible for all, since remote decisions and leases end without anybody saying so; and releases
  // the holds that have lasted too long. For a periodic call.
  absl::Status PublishAllPossible();

  // What an instance found in a slice whose writes are held. A record that differs for good releases the
  // slice and pauses the migration, and so does, towards new, one that could not be compared; what does not
  // (domain::StopsSlice) is recorded when the slice moves. A check of another epoch than the published one
  // changes nothing.
  absl::Status ApplySliceCheck(const std::string& instance_id, const domain::SliceCheck& check);

  // Declares an instance gone, for this migration. INVALID_ARGUMENT (reason REASON_REQUIRED) without a
  // reason, NOT_FOUND (reason INSTANCE_NOT_FOUND).
  absl::StatusOr<Eviction> Evict(absl::string_view name, const std::string& instance_id,
                                 const MutationContext& context);

  // Publishes the present routing under a new epoch, ahead of everything, so that its way through the fleet
  // can be measured. FAILED_PRECONDITION (reason FENCE_WAITS) while a state is pending.
  absl::StatusOr<MigrationView> Drill(absl::string_view name, const MutationContext& context);

  // When `epoch` was published, if it is the published one and was published by this process.
  struct PublishTime {
    absl::Duration since;      // boot
    bool is_rollback = false;  // or a drill of one
  };
  std::optional<PublishTime> PublishedSince(absl::string_view name, uint64_t epoch) const;

  // Which history of the data the epochs belong to; never 0. Constant after Recover.
  uint64_t store_epoch() const { return store_epoch_; }

  // Enrols an instance: atomic against publishes, and durable when it returns OK. A claim to an epoch that
  // was never published is FAILED_PRECONDITION (reason EPOCH_AHEAD): this server's data is older than the
  // instance's. From then on nothing is published for that migration, and nobody enrols for it who does not
  // act on it already (reason DATA_BEHIND), also after a restart, until the store epoch is another one.
  // Claims of another store epoch are taken as epochs that nobody here knows.
  absl::StatusOr<ConnectionId> Enrol(EnrolRequest request);

  // OK, or what is said of a migration whose data is older than an instance's (reason DATA_BEHIND).
  absl::Status CheckNotBehind(absl::string_view name) const;
  // All of those, sorted.
  std::vector<std::string> ListBehind() const;

  // INVALID_ARGUMENT when an instance acknowledges an epoch that was not published; names without a migration
  // are ignored, since it may have been deleted meanwhile.
  absl::Status CheckHeld(const std::map<std::string, uint64_t>& held) const;

  // The published state for a decision made here on a caller's behalf, already counted by fences for
  // `valid_for`. No lock but a pointer copy, no I/O. FAILED_PRECONDITION (reason DATA_BEHIND), as for whoever
  // enrols.
  absl::StatusOr<RemoteRouting> RouteRemotely(absl::string_view name) const;
  // The same, not counted, so not to be acted on: for explanations.
  absl::StatusOr<RemoteRouting> Explain(absl::string_view name) const;

  // For the other parts of the engine.
  std::optional<TelemetryTarget> FindTelemetryTarget(absl::string_view name) const;
  std::vector<GateSubject> GateSubjects() const;
  absl::StatusOr<GateSubject> FindGateSubject(absl::string_view name) const;
  // As it was at `time`, which is not in the future. Reads all decision records before.
  absl::StatusOr<GatePast> GateSubjectAt(absl::string_view name, absl::Time time) const;

  std::vector<TransitionCount> transitions() const;

 private:
  // A published state with its remote decisions; shared by successive versions of an entry.
  struct PublishedState {
    PublishedState(domain::MigrationRouting r, absl::Duration now, std::optional<bool> is_rollback);
    void NoteRemoteUntil(absl::Duration since_boot) const;
    bool RemoteAt(absl::Duration since_boot) const;

    const std::shared_ptr<const domain::MigrationRouting> routing;
    const absl::Duration since;             // since boot: when it was published, or read after a restart
    const std::optional<bool> is_rollback;  // or a drill of one; nothing: read after a restart
    mutable std::atomic<int64_t> remote_until_ns{0};  // since boot; seq_cst, see RouteRemotely
  };
  // After a hold that was released for having taken too long, the next one of the same goal does not begin at
  // once: else an instance whose operations take longer than a hold may would have the slice held time and
  // again.
  struct HoldBackoff {
    int releases = 0;                             // in a row
    absl::Duration until = absl::ZeroDuration();  // since boot
  };
  // The newest evaluation of one version of a migration; null: none yet. Evaluations come every few seconds
  // for every migration, so that one replaces another without a new entry. Thread-safe.
  class NewestEvaluation {
   public:
    explicit NewestEvaluation(std::shared_ptr<const GateEvaluation> evaluation)
        : evaluation_(std::move(evaluation)) {}
    std::shared_ptr<const GateEvaluation> Get() const {
      MutexLock lock(&mutex_);
      return evaluation_;
    }
    void Set(std::shared_ptr<const GateEvaluation> evaluation) {
      MutexLock lock(&mutex_);
      evaluation_.swap(evaluation);
    }

   private:
    mutable Mutex mutex_;
    std::shared_ptr<const GateEvaluation> evaluation_ ABSL_GUARDED_BY(mutex_);
  };
  // One migration as readers see it. Immutable, but for `gate`.
  struct Entry {
    std::shared_ptr<const domain::Migration> migration;
    std::shared_ptr<NewestEvaluation> gate;  // of this version alone
    std::shared_ptr<const PublishedState> published;
    std::vector<std::shared_ptr<const PublishedState>> draining;  // oldest first
    EvidenceTimeline timeline;
    HoldBackoff holds;  // not over a restart
  };
  using EntryPtr = std::shared_ptr<const Entry>;
  using Entries = NameMap<EntryPtr>;

  // What instances found in a held slice without its being stopped by that; not over a restart.
  struct LetThrough {
    uint64_t epoch = 0;                               // that holds the slice
    std::map<std::string, domain::SliceCheck> found;  // by instance
  };

  // One change on its way through the funnel.
  struct Change {
    std::string name;
    EntryPtr before;          // null: the migration is new
    domain::Migration after;  // version, update_time and decision_count are filled in by Apply
    absl::Time time;
    std::string actor;
    std::string action;
    std::string reason;
    std::optional<domain::GateResult> evidence;
    // Idempotency; empty method = none.
    std::string method;
    std::string request_id;
    bool keep_gate = false;  // the newest evaluation still stands
    bool drill = false;      // the routing is published once more, as a rollback would be
    std::string evicted;     // this instance's enrolment ends with the commit
    HoldBackoff holds;       // as before, unless a hold is released or a new goal begins
  };

  // Who has shown that the data of a migration is too old.
  struct Behind {
    std::string instance_id;
    uint64_t claimed_epoch = 0;
  };

  // Recovery.
  absl::Status RecoverAuditHead() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecoverBehind(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // By migration.
  using TimelineRows = absl::flat_hash_map<std::string, std::string>;
  absl::StatusOr<TimelineRows> ReadTimelineRows() const;
  // `rows` are those of the store. Reads the decisions that the migration's own is not of: none, as a rule.
  absl::StatusOr<EvidenceTimeline> LoadTimeline(const domain::Migration& migration,
                                                const TimelineRows& rows) const;
  absl::StatusOr<EntryPtr> LoadEntry(absl::string_view bytes, const TimelineRows& rows) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Gives `migration` the plan and the contract that it had after decision number `decision`.
  absl::Status RestoreDefinition(uint64_t decision, domain::Migration* migration) const;
  // A row of the table definitions.
  std::string EncodeDefinition(const domain::Migration& migration) const;

  std::shared_ptr<const Entries> entries() const;
  absl::StatusOr<EntryPtr> FindEntry(absl::string_view name) const;
  MigrationView ViewOf(const Entry& entry) const;
  std::shared_ptr<const PublishedRoutings> MakeSnapshot(uint64_t revision) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The start of every mutation: the answer of a first request with the same id, if there was one; else
  // existence and etag.
  absl::StatusOr<std::optional<RequestLog::Answer>> FindRepeat(absl::string_view method,
                                                               absl::string_view name,
                                                               const MutationContext& context) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<EntryPtr> FindForChange(absl::string_view name, const std::string& etag) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Fences. Every published state since the oldest that some instance is recorded at.
  StateHistory HistoryOf(const Entry& entry) const;
  // States published since `epoch` and no longer remembered by the migration, from the decision records.
  StateHistory FindStatesSince(const domain::Migration& migration, uint64_t epoch) const;
  // Remote decisions that are still valid.
  std::vector<Holder> RemoteHolders(const Entry& entry) const;
  // Whether `hop` may be published: the publish rule, and for one that begins to hold writes a fleet that
  // follows.
  bool MayPublish(const Entry& entry, const domain::RoutingState& hop) const;
  // Whom MayPublish waits for; nobody exactly when it is true.
  struct Waits {
    std::vector<FenceWait> named;  // the first of them
    size_t count = 0;
    void Add(FenceWait wait);
  };
  Waits WaitsFor(const Entry& entry, const domain::RoutingState& hop) const;
  // After a restored backup: whether `hop` has to wait until instances that are not known here had the time
  // to enrol.
  bool AwaitsUnknown(const domain::RoutingState& published, const domain::RoutingState& hop) const;
  std::vector<std::string> RisksOfEvicting(const Entry& entry, const InstanceView& instance) const;
  // OK unless an enrolled instance may act on something else than OFF.
  absl::Status CheckNobodyActsOn(const domain::Migration& migration) const;
  // Says so if an instance comes back that acted on what can't stand beside what is published. Before it is
  // enrolled.
  void WarnOfDivergence(const EnrolRequest& request, const Entry& entry) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Publishes the next hop to `goal` if it may be, and leaves the goal pending unless that was the last one.
  void RouteTo(const Entry& before, const domain::RoutingState& goal, absl::Time now,
               domain::Migration* after) const;
  static void PublishInto(domain::RoutingState state, absl::Time now, domain::Migration* after);
  void DropDrained(const Entry& before, domain::Migration* after) const;

  // What the funnel is fed with.
  // One that changes nothing yet, as of now.
  Change ChangeFrom(const EntryPtr& before, absl::string_view actor) const;
  Change TransitionChange(const EntryPtr& before, const domain::Transition& transition,
                          absl::string_view actor, absl::Time now) const;
  absl::StatusOr<Change> UpdateChange(const EntryPtr& before, const MigrationUpdate& update,
                                      absl::Time now) const;
  absl::StatusOr<domain::Migration> NewMigration(const MigrationDefinition& definition)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // The funnel. Apply returns the entry that readers see from now on; with `validate_only` the one they would
  // see.
  absl::StatusOr<EntryPtr> Apply(Change change, bool validate_only, WakeList* wake)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Hop by hop as far as it goes.
  absl::Status PublishPending(absl::string_view name, WakeList* wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Gives a hold up that has lasted longer than the plan allows.
  absl::Status ReleaseOverdue(absl::string_view name, WakeList* wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<MigrationView> ApplyAndView(Change change, const MutationContext& context, WakeList* wake)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  EntryPtr MakeEntry(const Entry* before, std::shared_ptr<const domain::Migration> migration,
                     EvidenceTimeline timeline, std::shared_ptr<const GateEvaluation> gate,
                     std::optional<bool> is_rollback, const HoldBackoff& holds) const;
  // Readers see `entry` (null: nothing) under `name`; with a new routing the streams do.
  void Show(const std::string& name, EntryPtr entry, std::optional<uint64_t> routing_revision, bool urgent,
            WakeList* wake) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // `evicted`: whose enrolment for `name` ends with it; empty = nobody's.
  absl::StatusOr<uint64_t> Commit(absl::string_view name, store::WriteBatch batch,
                                  const std::string& evicted = "") ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of a claim that is ahead: from here on nothing is published for `name`.
  void NoteBehind(const std::string& name, const std::string& instance_id, uint64_t claimed_epoch)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecoverStoreEpoch() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What may have been given is durable before it is given, and what was given before the start is counted.
  absl::Status RecoverRemoteValidity() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status StoreRemoteValidity() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Once Options::await_unknown is over.
  absl::Status EndAwaitUnknown();
  // Once the decisions of before the start, which were valid for longer, have ended.
  absl::Status LowerRemoteValidity();
  // Keeps for the next start which states have no remote decisions any more.
  absl::Status NoteRemoteEnded();
  void AppendAudit(absl::string_view actor, absl::string_view action, absl::string_view resource,
                   absl::string_view reason, absl::Time now, store::WriteBatch* batch) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void NoteLetThrough(const std::string& instance_id, const domain::SliceCheck& check)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What was let through when `change` moves a held slice back to old: "; instance 'a' found ..."; else
  // empty.
  std::string DescribeLetThrough(const Change& change) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What users had is taken back, or that is rehearsed.
  static bool IsRollback(const Change& change);
  // Goes ahead of what is on its way to the instances.
  static bool IsUrgent(const Change& change);
  void CountTransition(const Change& change);

  store::Store* const store_;
  const store::RecordCodec* const codec_;
  const Clock* const clock_;
  InstanceTable* const instances_;
  SnapshotHub* const hub_;
  const Options options_;
  uint64_t store_epoch_ = 0;                        // set by Recover
  std::atomic<int64_t> await_unknown_until_ns_{0};  // since boot; see Options::await_unknown
  ChangeNotifier watchers_;

  // The funnel's lock: held through a commit.
  mutable Mutex mutex_;
  Prng prng_ ABSL_GUARDED_BY(mutex_);
  RequestLog requests_ ABSL_GUARDED_BY(mutex_);
  uint64_t audit_count_ ABSL_GUARDED_BY(mutex_) = 0;
  // What is durable under kRemoteValidityKey: at least options_.remote_decision_validity.
  absl::Duration remote_validity_granted_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();
  absl::Duration lower_remote_validity_at_ ABSL_GUARDED_BY(mutex_) = absl::ZeroDuration();  // since boot
  std::map<std::string, uint64_t> remote_ended_ ABSL_GUARDED_BY(mutex_);   // as said in this process
  std::map<std::string, LetThrough> let_through_ ABSL_GUARDED_BY(mutex_);  // by migration
  // That of every entry's published state.
  NameMap<std::shared_ptr<const domain::MigrationRouting>> routings_ ABSL_GUARDED_BY(mutex_);

  // What readers see.
  mutable Mutex view_mutex_ ABSL_ACQUIRED_AFTER(mutex_);
  std::shared_ptr<const Entries> entries_ ABSL_GUARDED_BY(view_mutex_) = std::make_shared<const Entries>();
  absl::Status health_ ABSL_GUARDED_BY(view_mutex_);
  std::map<std::string, Behind, std::less<>> behind_ ABSL_GUARDED_BY(view_mutex_);  // only grows
  std::atomic<bool> any_behind_{false};
  std::map<std::tuple<domain::Stage, domain::Stage, std::string>, uint64_t> transitions_
      ABSL_GUARDED_BY(view_mutex_);
};

}  // namespace lockstep::engine
