#include "tests/sim/life.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/check.h"
#include "lockstep/internal/held_writes.h"
#include "tests/sim/server.h"

namespace lockstep::sim {
namespace {

constexpr absl::Duration kLongestTurn = absl::Milliseconds(500);
constexpr absl::Duration kShutdownPatience = absl::Seconds(3);
constexpr absl::Duration kShutdownPoll = absl::Milliseconds(20);

}  // namespace

Life::~Life() { LOCKSTEP_CHECK(!alive_, "a life is ended before it is forgotten"); }

void Life::Begin(std::shared_ptr<StateStorage> storage, uint64_t seed) {
  const ProcessConfig& config = process_->config_;
  ClientOptions options;
  options.transport = std::make_shared<SimTransport>(process_->network_, shared_from_this(), broken());
  options.service = "orders";
  options.version = "1";
  options.migrations = {kMigration};
  options.instance_id = config.state_directory && config.instance_id.empty() ? "" : config.instance_id;
  options.state_storage = std::move(storage);
  options.sync_journal = config.sync_journal;
  options.heartbeat_interval = absl::Seconds(1);
  options.lease_ttl = absl::Seconds(3);
  options.lease_policy = config.policy;
  options.backoff_max = absl::Seconds(2);
  options.telemetry_interval = absl::Seconds(2);
  // The client's executor is this life, which outlives it.
  options.executor = std::shared_ptr<Executor>(std::shared_ptr<Executor>(), this);
  options.own_thread = false;
  options.clock = &process_->clock_;
  options.seed = seed;
  absl::StatusOr<std::unique_ptr<Client>> client = Client::Create(std::move(options));
  if (!client.ok()) {
    commons_->oracle.Violate(
        absl::StrCat("process ", index(), " does not start: ", client.status().ToString()));
    return;
  }
  client_ = *std::move(client);
  orders_ = MakeOrders();
  After(absl::ZeroDuration(), [this] { RunClient(); });
}

void Life::End(bool journal_survives) {
  // A request under way takes effect or is lost with the process.
  for (auto& [id, apply] : std::exchange(in_flight_, {})) {
    if (process_->prng_.Below(2) == 0) apply();
  }
  std::vector<Debt>& debts = process_->debts_;
  for (const auto& [id, op] : ops_) {
    const domain::RoutingState* const state = commons_->oracle.StateOf(op->epoch);
    if (op->version == 0 || state == nullptr) continue;
    const domain::LadderRow& row = domain::LadderRowOf(state->stage);
    const domain::Side mirror =
        *op->authoritative == domain::Side::kOld ? domain::Side::kNew : domain::Side::kOld;
    if (row.writes_old && row.writes_new) debts.push_back({op->key, op->version, mirror});
  }
  std::erase_if(debts, [this](const Debt& debt) {
    return commons_->store(debt.mirror).Get(debt.key).version >= debt.version;
  });
  if (!journal_survives) {
    for (const Debt& debt : std::exchange(debts, {})) commons_->oracle.Cut(debt.key);
  }
  alive_ = false;
  for (auto& [id, running] : std::exchange(fibers_, {})) {
    running.fiber->Cancel();
    commons_->fibers.Release(running.fiber);
  }
  tasks_.clear();
  if (client_ != nullptr) commons_->stats.held += client_->held_writes().Stats().resumed;
  orders_.reset();
  client_.reset();
  tasks_.clear();
  commons_->oracle.ForgetProcess(index());
}

void Life::Trace(const std::string& line) const {
  if (commons_->options.trace) commons_->Trace(absl::StrCat("process ", index(), " ", line));
}

void Life::Event(const std::function<void()>& run) {
  if (!alive_) return;
  if (process_->paused_) {
    process_->deferred_.push_back([weak = weak_from_this(), run] {
      if (const std::shared_ptr<Life> life = weak.lock()) life->Event(run);
    });
    return;
  }
  run();
}

void Life::After(absl::Duration simulated, std::function<void()> run) {
  commons_->scheduler.After(simulated, [weak = weak_from_this(), run = std::move(run)] {
    if (const std::shared_ptr<Life> life = weak.lock()) life->Event(run);
  });
}

void Life::Deliver(std::function<void()> deliver) {
  Event([this, deliver = std::move(deliver)] {
    deliver();
    RunClient();
  });
}

void Life::RunClient() {
  if (client_ == nullptr) return;
  const absl::Duration wait = std::clamp(client_->RunOnce(), absl::Milliseconds(1), kLongestTurn);
  After(clock().Simulated(wait), [this, number = ++run_number_] {
    if (number == run_number_) RunClient();
  });
  ready_once_ = ready_once_ || client_->Stats().snapshot_revision > 0;
}

void Life::StartFiber(Task body) {
  Fiber* const fiber = commons_->fibers.New(std::move(body));
  fibers_[fiber->id()].fiber = fiber;
  ResumeFiber(fiber);
}

void Life::ResumeFiber(Fiber* fiber) {
  fiber->Resume();
  if (!fiber->done()) return;
  fibers_.erase(fiber->id());
  commons_->fibers.Release(fiber);
}

void Life::Submit(absl::Duration delay, Task task) {
  if (!alive_) return;
  if (broken() == Broken::kExecutorDropsTasks && process_->prng_.Below(30) == 0) return;
  const uint64_t id = next_id_++;
  tasks_.emplace(id, std::move(task));
  After(clock().Simulated(delay), [this, id] { RunTask(id); });
}

void Life::RunTask(uint64_t id) {
  const auto found = tasks_.find(id);
  if (found == tasks_.end()) return;
  Task task = std::move(found->second);
  tasks_.erase(found);
  StartFiber(std::move(task));
}

absl::Duration Life::RandomStep() {
  Prng& prng = process_->prng_;
  absl::Duration step = absl::Microseconds(50 + prng.Below(2000));
  if (commons_->Has(Fault::kDelay) && prng.Below(25) == 0) step += absl::Milliseconds(prng.Below(1500));
  // Nobody watches a call that may take as long as it likes.
  if (broken() == Broken::kIgnoresDeadlines && !commons_->healed && prng.Below(4) == 0)
    step += absl::Milliseconds(prng.Below(9000));
  return step;
}

Life::StoreAnswer Life::Call(domain::Side side, Key key, absl::Time deadline,
                             std::function<StoreAnswer()> effect) {
  if (!alive_) return {absl::UnavailableError("the process is gone"), {}};
  Fiber* const fiber = Fiber::Current();
  LOCKSTEP_CHECK(fiber != nullptr, "stores are called by operations only");
  Prng& prng = process_->prng_;
  const uint64_t dice = commons_->Has(Fault::kStoreErrors) ? prng.Below(60) : 60;
  const bool honours = broken() != Broken::kIgnoresDeadlines;
  auto answer = std::make_shared<std::optional<StoreAnswer>>();
  const uint64_t id = next_id_++;
  in_flight_.emplace(id, [this, side, deadline, honours, dice, effect = std::move(effect), answer] {
    if (commons_->sick[static_cast<size_t>(side)]) {
      *answer = StoreAnswer{absl::UnavailableError("the store is out"), {}};
    } else if (honours && clock().Now() > deadline) {
      *answer = StoreAnswer{absl::DeadlineExceededError("too late for the store"), {}};
    } else if (dice == 0) {
      *answer = StoreAnswer{absl::AbortedError("the store has refused"), {}};
    } else {
      *answer = effect();
      if (dice == 1) (*answer)->status = absl::UnknownError("the answer was lost");
    }
  });
  commons_->scheduler.After(RandomStep(), [this, weak = weak_from_this(), id, fiber, back = RandomStep()] {
    const std::shared_ptr<Life> life = weak.lock();
    if (life == nullptr || !alive_) return;
    const auto call = in_flight_.find(id);
    const std::function<void()> apply = std::move(call->second);
    in_flight_.erase(call);
    apply();
    After(back, [this, fiber] { ResumeFiber(fiber); });
  });
  while (!answer->has_value()) Fiber::Suspend();
  if (honours && clock().Now() > deadline) return {absl::DeadlineExceededError("the store is slow"), {}};
  return **answer;
}

void Life::Shutdown(Departure departure) {
  stopping_ = true;
  const absl::Time patience = clock().Now() + kShutdownPatience;
  WaitForTheEnd(departure, patience);
}

void Life::WaitForTheEnd(Departure departure, absl::Time patience) {
  const ClientStats stats = client_->Stats();
  if (clock().Now() < patience && stats.operations_pinned + stats.repairs_outstanding > 0) {
    After(kShutdownPoll, [this, departure, patience] { WaitForTheEnd(departure, patience); });
    return;
  }
  // Simulated time does not go on while it waits, so it doesn't.
  const absl::Status left = client_->Shutdown(clock().Now(), departure);
  process_->OnShutDown(left);
}

std::string Life::Unsettled() const {
  std::vector<std::string> left;
  const ClientStats stats = client_->Stats();
  if (process_->paused_) left.push_back("stands still");
  if (!stats.connected) left.push_back("is not connected");
  if (stats.stale) left.push_back("is stale");
  if (stats.repairs_outstanding > 0)
    left.push_back(absl::StrCat("has ", stats.repairs_outstanding, " repairs"));
  if (stats.held_writes_waiting > 0)
    left.push_back(absl::StrCat("holds ", stats.held_writes_waiting, " writes"));
  if (reads_under_way_ > 0) left.push_back(absl::StrCat("has ", reads_under_way_, " reads under way"));
  const auto open = std::count_if(ops_.begin(), ops_.end(), [](const auto& op) { return !op.second->ended; });
  if (open > 0) left.push_back(absl::StrCat("has ", open, " writes under way"));
  return absl::StrJoin(left, ", ");
}

}  // namespace lockstep::sim
