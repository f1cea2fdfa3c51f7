#include "tests/sim/process.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/life.h"

namespace lockstep::sim {
namespace {

constexpr size_t kTraceLines = 4000;

// Takes what it is given and forgets it at the next crash.
class LyingStorage final : public StateStorage {
 public:
  LyingStorage(std::shared_ptr<StateStorage> disk, Broken broken) : disk_(std::move(disk)), broken_(broken) {}

  absl::StatusOr<std::optional<std::string>> Read(absl::string_view name) override {
    const auto cached = cache_.find(std::string(name));
    if (cached != cache_.end()) return std::optional<std::string>(cached->second);
    return disk_->Read(name);
  }
  absl::Status Replace(absl::string_view name, absl::string_view contents) override {
    // The first of each file is real, so that there is something to come back to.
    if (broken_ == Broken::kStorageLies && written_.contains(std::string(name))) {
      cache_[std::string(name)] = std::string(contents);
      return absl::OkStatus();
    }
    written_.insert(std::string(name));
    return disk_->Replace(name, contents);
  }
  absl::Status Append(absl::string_view name, absl::string_view bytes, bool sync) override {
    if (broken_ == Broken::kJournalLost) return absl::OkStatus();
    const auto cached = cache_.find(std::string(name));
    if (cached != cache_.end()) {
      cached->second.append(bytes.data(), bytes.size());
      return absl::OkStatus();
    }
    return disk_->Append(name, bytes, sync);
  }

 private:
  const std::shared_ptr<StateStorage> disk_;
  const Broken broken_;
  std::map<std::string, std::string> cache_;
  std::set<std::string> written_;
};

// A process that has died writes nothing, whatever its stack still does while it unwinds.
class MortalStorage final : public StateStorage {
 public:
  MortalStorage(std::shared_ptr<StateStorage> disk, std::weak_ptr<Life> life)
      : disk_(std::move(disk)), life_(std::move(life)) {}

  absl::StatusOr<std::optional<std::string>> Read(absl::string_view name) override {
    return disk_->Read(name);
  }
  absl::Status Replace(absl::string_view name, absl::string_view contents) override {
    return Dead() ? absl::OkStatus() : disk_->Replace(name, contents);
  }
  absl::Status Append(absl::string_view name, absl::string_view bytes, bool sync) override {
    return Dead() ? absl::OkStatus() : disk_->Append(name, bytes, sync);
  }

 private:
  bool Dead() const {
    const std::shared_ptr<Life> life = life_.lock();
    return life == nullptr || !life->alive();
  }

  const std::shared_ptr<StateStorage> disk_;
  const std::weak_ptr<Life> life_;
};

}  // namespace

void Commons::Trace(std::string line) {
  if (!options.trace) return;
  trace.push_back(absl::StrCat(absl::FormatDuration(scheduler.now()), " ", line));
  if (trace.size() > kTraceLines) trace.pop_front();
}

Process::Process(Commons* commons, Network* network, ProcessConfig config, Prng prng)
    : commons_(commons),
      network_(network),
      config_(std::move(config)),
      prng_(std::move(prng)),
      clock_(&commons->scheduler, config_.clock_rate, absl::Hours(1) + absl::Seconds(prng_.Below(100000))) {
  if (config_.state_directory) disk_ = std::make_shared<MemoryStateStorage>(prng_.Next());
}

Process::~Process() {
  if (life_ != nullptr) life_->End(/*journal_survives=*/true);
}

void Process::Start() {
  if (running()) return;
  ++lives_;
  life_ = std::make_shared<Life>(this);
  std::shared_ptr<StateStorage> storage;
  if (disk_ != nullptr) {
    storage = disk_;
    if (commons_->options.broken == Broken::kStorageLies ||
        commons_->options.broken == Broken::kJournalLost) {
      storage = std::make_shared<LyingStorage>(storage, commons_->options.broken);
    }
    storage = std::make_shared<MortalStorage>(storage, life_);
  }
  commons_->Trace(absl::StrCat("process ", config_.index, " starts"));
  life_->Begin(std::move(storage), prng_.Next() | 1);
}

void Process::Crash(bool machine) {
  if (!running()) return;
  ++commons_->stats.crashes;
  machine = machine && commons_->options.Has(Fault::kMachineCrash);
  commons_->Trace(
      absl::StrCat("process ", config_.index, machine ? " crashes with its machine" : " crashes"));
  End(/*journal_survives=*/config_.state_directory && (!machine || config_.sync_journal));
  if (disk_ != nullptr) {
    disk_->Crash(machine ? MemoryStateStorage::Failure::kMachine : MemoryStateStorage::Failure::kProcess);
  }
}

void Process::Shutdown(Departure departure, absl::Duration down_for) {
  if (!running() || paused_ || life_->stopping()) return;
  commons_->Trace(absl::StrCat("process ", config_.index, " shuts down",
                               departure == Departure::kForGood ? " for good" : ""));
  down_for_ = down_for;
  life_->Shutdown(departure);
}

void Process::OnShutDown(const absl::Status& left) {
  ++commons_->stats.shutdowns;
  commons_->Trace(absl::StrCat("process ", config_.index, " is shut down: ", left.ToString()));
  // Operations that had not ended, and mirrors that were not repaired, are lost as in a crash.
  End(/*journal_survives=*/config_.state_directory);
  commons_->scheduler.After(down_for_, [this] { Start(); });
}

void Process::End(bool journal_survives) {
  paused_ = false;
  deferred_.clear();
  if (!config_.state_directory && config_.instance_id.empty()) ghosts_.insert(life_->client().instance_id());
  const std::shared_ptr<Life> life = life_;
  life->End(journal_survives);
  life_.reset();
}

void Process::Pause() {
  if (!running() || paused_) return;
  ++commons_->stats.pauses;
  commons_->Trace(absl::StrCat("process ", config_.index, " stands still"));
  paused_ = true;
}

void Process::Resume() {
  if (!paused_) return;
  commons_->Trace(absl::StrCat("process ", config_.index, " goes on"));
  paused_ = false;
  const std::vector<std::function<void()>> late = std::exchange(deferred_, {});
  for (const auto& run : late) run();
}

void Process::Write(Key key, std::optional<int64_t> value) {
  if (running() && !paused_) life_->Write(key, value);
}

void Process::Read(Key key, bool with_token) {
  if (!running() || paused_) return;
  const auto token = tokens_.find(key);
  life_->Read(key, with_token && token != tokens_.end() ? &token->second : nullptr);
}

std::string Process::Unsettled() const {
  if (!running()) return "it is down";
  return life_->Unsettled();
}

std::string Process::instance_id() const { return running() ? life_->client().instance_id() : ""; }

}  // namespace lockstep::sim
