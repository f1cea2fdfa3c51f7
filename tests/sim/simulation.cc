// One run: a phase in which everything goes wrong that may, then everything is healed, and must settle.
#include <algorithm>
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/life.h"
#include "tests/sim/operator.h"
#include "tests/sim/options.h"
#include "tests/sim/server.h"

namespace lockstep::sim {
namespace {

constexpr HalfOpen kHalfOpen[] = {HalfOpen::kNo, HalfOpen::kNo, HalfOpen::kAtServer, HalfOpen::kAtClient};
constexpr absl::Duration kLongestRun = absl::Minutes(10);
// After healing, everything has to settle within this.
constexpr absl::Duration kSettling = absl::Seconds(120);
// Together, what the margin of a lease allows for.
constexpr double kServerDrift = 0.01;
constexpr double kInstanceDrift = 0.039;

class World {
 public:
  explicit World(const SimOptions& options) : prng_(options.seed) {
    commons_.options = options;
    // Not everything at once: what one fault hides, another run shows.
    for (const Fault fault : kAllFaults) {
      if (Chance(2)) commons_.options.faults &= ~(uint32_t{1} << static_cast<int>(fault));
    }
    network_ = std::make_unique<Network>(&commons_.scheduler, commons_.options, &commons_.stats, Fork());
    const double server_rate = commons_.options.Has(Fault::kDrift) ? Drift(kServerDrift) : 1;
    server_ = std::make_unique<Server>(&commons_.scheduler, network_.get(), &commons_.oracle, &commons_.stats,
                                       commons_.options, server_rate, Fork(),
                                       [this](std::string line) { commons_.Trace(std::move(line)); });
    network_->Attach(server_.get());
    MakeProcesses();
    trouble_ = 150 + prng_.Below(1500);
    operator_ = std::make_unique<Operator>(&commons_, server_.get(), &processes_, Fork());
  }
  ~World() {
    processes_.clear();
    commons_.scheduler.Clear();
    server_.reset();
    commons_.scheduler.Clear();
  }

  SimResult Run() {
    server_->Start();
    operator_->Create();
    commons_.scheduler.After(absl::Milliseconds(1000 + prng_.Below(5000)), [this] { operator_->Begin(); });
    for (const auto& process : processes_) {
      commons_.scheduler.After(absl::Milliseconds(400 + prng_.Below(3000)),
                               [p = process.get()] { p->Start(); });
    }
    commons_.scheduler.After(absl::Seconds(2), [this] { Load(); });
    commons_.scheduler.After(absl::Seconds(2), [this] { Trouble(); });
    // Somebody who misses the first steps altogether.
    if (commons_.Has(Fault::kPartition) && Chance(3)) {
      const int process = static_cast<int>(prng_.Below(processes_.size()));
      commons_.scheduler.After(absl::Milliseconds(3000 + prng_.Below(3000)), [this, process] {
        Partition(process, absl::Milliseconds(4000 + prng_.Below(12000)));
      });
    }
    while (Fine() && operations_ < commons_.options.operations && commons_.scheduler.now() < kLongestRun) {
      commons_.scheduler.RunNext(kLongestRun);
    }
    if (Fine()) Heal();
    if (Fine()) Settle();
    SimResult result;
    result.violation = commons_.oracle.violation();
    commons_.stats.events = commons_.scheduler.ran();
    result.stats = commons_.stats;
    result.trace.assign(commons_.trace.begin(), commons_.trace.end());
    return result;
  }

 private:
  Prng Fork() { return Prng(prng_.Next()); }
  bool Fine() const { return commons_.oracle.violation().empty(); }
  double Drift(double most) { return 1 + (prng_.Unit() * 2 - 1) * most; }
  bool Chance(uint64_t one_in) { return prng_.Below(one_in) == 0; }
  Process& Anyone() { return *processes_[prng_.Below(processes_.size())]; }

  void MakeProcesses() {
    const SimOptions& options = commons_.options;
    const size_t count = 2 + prng_.Below(3);
    for (size_t i = 0; i < count; ++i) {
      ProcessConfig config;
      config.index = static_cast<int>(i);
      config.state_directory = prng_.Below(5) < 3;
      config.sync_journal = Chance(2);
      if (Chance(3)) config.policy = domain::LeasePolicy::kFailWrites;
      if (Chance(4)) config.mirror_mode = MirrorMode::kWriteBehind;
      if (Chance(2)) config.instance_id = absl::StrCat("instance-", i);
      if (options.Has(Fault::kDrift)) config.clock_rate = Drift(kInstanceDrift);
      if (options.broken == Broken::kSlowLeaseClock && i == 0) {
        config.clock_rate = 0.5;
        config.policy = domain::LeasePolicy::kFailWrites;
      }
      if (options.broken == Broken::kIgnoresDeadlines) config.policy = domain::LeasePolicy::kFailWrites;
      if (options.broken == Broken::kSharedId) {
        config.instance_id = i < 2 ? "instance-0" : config.instance_id;
        if (i < 2) config.state_directory = false;
      }
      if (options.broken == Broken::kStorageLies || options.broken == Broken::kJournalLost) {
        config.state_directory = true;
      }
      processes_.push_back(std::make_unique<Process>(&commons_, network_.get(), config, Fork()));
    }
  }

  void Load() {
    if (commons_.healed) return;
    ++operations_;
    Process& process = Anyone();
    // Few records, so that operations meet.
    const Key key = static_cast<Key>(std::min(prng_.Below(kKeys), prng_.Below(kKeys)));
    const uint64_t dice = prng_.Below(100);
    if (dice < 45) {
      process.Write(key, ++last_value_);
    } else if (dice < 50) {
      process.Write(key, std::nullopt);
    } else {
      process.Read(key, dice >= 85);
    }
    commons_.scheduler.After(absl::Milliseconds(5 + prng_.Below(200)), [this] { Load(); });
  }

  void Trouble() {
    if (commons_.healed) return;
    switch (const Fault fault = kAllFaults[prng_.Below(kAllFaults.size())]; fault) {
      case Fault::kBreak:
        if (commons_.Has(fault)) network_->BreakOne(kHalfOpen[prng_.Below(std::size(kHalfOpen))]);
        break;
      case Fault::kPartition:
        if (commons_.Has(fault)) Partition(static_cast<int>(prng_.Below(processes_.size())), AWhile());
        break;
      case Fault::kCrash:
      case Fault::kMachineCrash:
        if (commons_.Has(fault)) CrashFor(Anyone(), fault == Fault::kMachineCrash);
        break;
      case Fault::kPause:
        if (commons_.Has(fault)) PauseFor(Anyone());
        break;
      case Fault::kServerRestart:
        if (!commons_.Has(fault)) break;
        RestartServer();
        break;
      case Fault::kLeave:
        if (commons_.Has(fault))
          Anyone().Shutdown(Chance(3) ? Departure::kForGood : Departure::kMayComeBack, AWhile());
        break;
      case Fault::kServerPause:
        if (commons_.Has(fault)) PauseServerFor(AWhile());
        break;
      case Fault::kRenewal:
        if (commons_.Has(fault)) server_->RenewOne();
        break;
      case Fault::kSickSide:
        if (commons_.Has(fault)) Sicken(prng_.Below(2));
        break;
      case Fault::kDelay:
      case Fault::kServerDisk:
      case Fault::kStoreErrors:
      case Fault::kDrift:
      case Fault::kCorrupt:
        break;  // always there, not at moments
    }
    commons_.scheduler.After(absl::Milliseconds(50 + prng_.Below(trouble_)), [this] { Trouble(); });
  }

  absl::Duration AWhile() {
    // Mostly short, sometimes beyond every lease.
    return absl::Milliseconds(Chance(3) ? prng_.Below(9000) : prng_.Below(1200));
  }

  void Partition(int process, absl::Duration duration) {
    commons_.Trace(absl::StrCat("process ", process, " is cut off"));
    network_->SetPartitioned(process, true);
    commons_.scheduler.After(duration, [this, process] { network_->SetPartitioned(process, false); });
  }

  void CrashFor(Process& process, bool machine) {
    process.Crash(machine);
    commons_.scheduler.After(AWhile(), [&process] { process.Start(); });
  }

  void RestartServer() {
    switch (prng_.Below(6)) {
      case 0:
      case 1:
        return server_->Drain(absl::Milliseconds(prng_.Below(3000)));
      case 2:
        return server_->Vanish(absl::Milliseconds(prng_.Below(6000)));
      default:
        return server_->Crash(absl::Milliseconds(prng_.Below(6000)));
    }
  }

  void PauseServerFor(absl::Duration duration) {
    server_->Pause();
    commons_.scheduler.After(duration, [this] { server_->Resume(); });
  }

  void PauseFor(Process& process) {
    process.Pause();
    commons_.scheduler.After(AWhile(), [&process] { process.Resume(); });
  }

  void Sicken(size_t side) {
    commons_.Trace(absl::StrCat("store ", side, " is out"));
    commons_.sick[side] = true;
    commons_.scheduler.After(AWhile(), [this, side] { commons_.sick[side] = false; });
  }

  void Heal() {
    commons_.Trace("everything is healed");
    commons_.healed = true;
    operator_->Rest();
    server_->Heal();
    server_->Resume();
    network_->Heal();
    commons_.sick[0] = commons_.sick[1] = false;
    for (const auto& process : processes_) {
      network_->SetPartitioned(process->config().index, false);
      process->Resume();
      process->Start();
    }
  }

  void Settle() {
    const absl::Duration deadline = commons_.scheduler.now() + kSettling;
    std::string unsettled = "nothing was looked at";
    while (Fine() && !unsettled.empty() && commons_.scheduler.now() < deadline) {
      const absl::Duration next = commons_.scheduler.now() + absl::Seconds(1);
      while (Fine() && commons_.scheduler.RunNext(next)) {
      }
      unsettled = Unsettled();
    }
    if (!Fine()) return;
    if (!unsettled.empty()) {
      commons_.oracle.Violate(
          absl::StrCat("not settled ", absl::FormatDuration(kSettling), " after healing: ", unsettled));
      return;
    }
    const absl::StatusOr<engine::MigrationView> view = server_->engine().registry().Get(kMigration);
    if (!view.ok()) return;
    const domain::RoutingState& published = view->migration->published;
    commons_.oracle.CheckTotals(server_->engine().telemetry().LifetimeTotals(kMigration));
    commons_.oracle.CheckStores(commons_.store(domain::Side::kOld), commons_.store(domain::Side::kNew),
                                published, operator_->Backfilled(published));
  }

  // Empty, or what is still to be done.
  std::string Unsettled() const {
    if (!server_->up()) return "the server is down";
    for (const auto& process : processes_) {
      if (const std::string what = process->Unsettled(); !what.empty()) {
        return absl::StrCat("process ", process->config().index, " ", what);
      }
    }
    const absl::StatusOr<engine::MigrationView> view = server_->engine().registry().Get(kMigration);
    if (!view.ok()) return "there is no migration";
    const domain::Migration& migration = *view->migration;
    if (migration.pending.has_value()) {
      std::string text = "a state waits";
      for (const engine::FenceWait& wait : view->waiting) {
        absl::StrAppend(&text, "; for ", wait.instance_id, " at epoch ", wait.epoch, ": ", wait.reason);
      }
      for (const engine::InstanceView& instance : server_->engine().instances().List(kMigration)) {
        absl::StrAppend(&text, "; ", instance.instance_id, " has ", domain::DescribeStatus(instance.status));
      }
      return text;
    }
    for (const engine::InstanceView& instance : server_->engine().instances().List(kMigration)) {
      if (instance.acknowledged_epoch < migration.published.epoch) {
        return absl::StrCat(instance.instance_id, " is at epoch ", instance.acknowledged_epoch, " of ",
                            migration.published.epoch);
      }
    }
    return "";
  }

  Prng prng_;
  Commons commons_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<Server> server_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::unique_ptr<Operator> operator_;
  uint64_t trouble_ = 0;  // the longest time between faults, in ms
  int operations_ = 0;
  int64_t last_value_ = 0;
};

}  // namespace

SimResult Simulate(const SimOptions& options) { return World(options).Run(); }

}  // namespace lockstep::sim
