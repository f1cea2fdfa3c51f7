// 30 s without a control plane under steady load: what services see of it, by lease policy and with or
// without a state directory, and that nothing is lost when it is back.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "lockstep/grpc_transport.h"
#include "tests/e2e/fleet.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/e2e/memory_sides.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/http_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::AdvanceTo;
using testing::ApiClient;
using testing::Eventually;
using testing::FleetOperation;
using testing::FleetService;
using testing::HttpGet;
using testing::IsOk;
using testing::MetricValue;
using testing::NameOf;

constexpr absl::Duration kOutage = absl::Seconds(30);
// Not lost by an instance that has to wait for a processor.
constexpr absl::Duration kLease = absl::Seconds(5);
constexpr absl::Duration kPace = absl::Milliseconds(2);
constexpr int kKeys = 200;
constexpr char kOrders[] = "orders";  // of the instances in this process
constexpr char kCarts[] = "carts";    // of the service processes

// What the test knows of the control plane and the lease while an operation runs.
enum Phase : size_t {
  kUp,         // the control plane serves
  kGrace,      // it is gone, the lease may last
  kOut,        // the lease is over
  kReturning,  // it is back, the lease may be over
  kBack,       // the lease is won again
  kMixed,      // an operation that began in one and ended in another
  kPhases,
};

struct Counts {
  std::atomic<uint64_t> reads{0}, reads_failed{0}, writes{0}, writes_failed{0};
};

// An instance with a thread that writes and one that reads, as steadily as the machine allows. Every read has
// to show what was acknowledged before it began, or something newer.
class SteadyService {
 public:
  SteadyService(const std::string& address, const std::string& instance, domain::LeasePolicy policy,
                testing::MemorySide* old_side, testing::MemorySide* new_side)
      : prefix_(instance) {
    ClientOptions options;
    options.service = "orders";
    options.migrations = {NameOf(kOrders)};
    options.instance_id = instance;
    options.lease_ttl = kLease;
    options.heartbeat_interval = kLease / 10;
    options.lease_policy = policy;
    options.backoff_initial = absl::Milliseconds(20);
    options.backoff_max = absl::Milliseconds(500);
    options.telemetry_interval = absl::Milliseconds(200);
    auto client = ConnectGrpc({.address = address, .report_deadline = absl::Seconds(2)}, std::move(options));
    EXPECT_TRUE(IsOk(client));
    client_ = *std::move(client);
    EXPECT_TRUE(IsOk(client_->WaitUntilReady(absl::Now() + testing::kPatience)));
    const auto same = [](const std::string& text) { return text; };
    auto migrator = testing::MakeTextMigrator(client_.get(), NameOf(kOrders), old_side, new_side, same);
    EXPECT_TRUE(IsOk(migrator));
    migrator_ = *std::move(migrator);
  }
  ~SteadyService() { StopLoad(); }

  void StartLoad() {
    for (int i = 0; i < kKeys; ++i) EXPECT_TRUE(IsOk(WriteOnce(i, 1)));
    threads_.emplace_back([this] {
      for (uint64_t number = 2; !stop_; ++number) {
        for (int i = 0; i < kKeys && !stop_; ++i) {
          CountWrite([&] { return WriteOnce(i, number); });
          absl::SleepFor(kPace);
        }
      }
    });
    threads_.emplace_back([this] {
      for (int i = 0; !stop_; i = (i + 1) % kKeys) {
        CountRead(i);
        absl::SleepFor(kPace);
      }
    });
  }
  void StopLoad() {
    stop_ = true;
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }
  void Enter(Phase phase) { phase_ = phase; }

  Client& client() { return *client_; }
  const Counts& in(Phase phase) const { return counts_[phase]; }
  uint64_t reads() const { return Sum(&Counts::reads); }
  uint64_t reads_failed() const { return Sum(&Counts::reads_failed); }
  uint64_t writes() const { return Sum(&Counts::writes) + kKeys; }
  uint64_t writes_failed() const { return Sum(&Counts::writes_failed); }
  uint64_t served_wrong() const { return served_wrong_; }
  uint64_t not_retriable() const { return not_retriable_; }
  std::string first_error() const {
    MutexLock lock(&mutex_);
    return first_error_;
  }

 private:
  std::string KeyOf(int i) const { return absl::StrCat(prefix_, "-", i); }
  absl::Status WriteOnce(int i, uint64_t number) {
    const absl::Status status = migrator_->Write(KeyOf(i), absl::StrCat(number)).status();
    if (status.ok()) acknowledged_[static_cast<size_t>(i)] = number;
    return status;
  }
  Phase Between(Phase before) const { return phase_ == before ? before : kMixed; }
  void NoteError(const absl::Status& status) {
    MutexLock lock(&mutex_);
    if (first_error_.empty()) first_error_ = status.ToString();
  }
  template <typename Write>
  void CountWrite(Write write) {
    const Phase before = phase_;
    const absl::Status status = write();
    Counts& counts = counts_[Between(before)];
    ++counts.writes;
    if (status.ok()) return;
    ++counts.writes_failed;
    if (!absl::IsUnavailable(status)) ++not_retriable_;
    NoteError(status);
  }
  void CountRead(int i) {
    const Phase before = phase_;
    const uint64_t at_least = acknowledged_[static_cast<size_t>(i)];
    const auto read = migrator_->Read(KeyOf(i));
    Counts& counts = counts_[Between(before)];
    ++counts.reads;
    uint64_t number = 0;
    if (!read.ok()) {
      ++counts.reads_failed;
      NoteError(read.status());
    } else if (!*read || !absl::SimpleAtoi(**read, &number) || number < at_least) {
      ++served_wrong_;
    }
  }
  uint64_t Sum(std::atomic<uint64_t> Counts::*member) const {
    uint64_t sum = 0;
    for (const Counts& counts : counts_) sum += (counts.*member).load();
    return sum;
  }

  const std::string prefix_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<testing::TextMigrator> migrator_;
  std::array<std::atomic<uint64_t>, kKeys> acknowledged_{};
  std::array<Counts, kPhases> counts_;
  std::atomic<Phase> phase_{kUp};
  std::atomic<uint64_t> served_wrong_{0};
  std::atomic<uint64_t> not_retriable_{0};
  mutable Mutex mutex_;
  std::string first_error_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  std::vector<std::thread> threads_;
};

class OutageTest : public ::testing::Test {
 protected:
  OutageTest() {
    EXPECT_TRUE(server_.Start()) << server_.Output();
    api_ = std::make_unique<ApiClient>(server_.address());
    // Half of the keys are read from new; every step by hand.
    v1::Migration orders = testing::FleetMigration();
    orders.mutable_plan()->mutable_steps()->RemoveLast();
    orders.mutable_plan()->mutable_steps(2)->set_weight(50000);
    EXPECT_TRUE(IsOk(api_->Create(kOrders, orders)));
    EXPECT_TRUE(IsOk(api_->Create(kCarts, testing::FleetMigration())));
  }

  std::unique_ptr<FleetService> NewCarts(const std::string& instance, bool keep_state) {
    return std::make_unique<FleetService>(testing::FleetServiceOptions{
        .address = server_.address(),
        .migration = NameOf(kCarts),
        .instance = instance,
        .directory = absl::StrCat(directory_.path(), "/", instance),
        .lease = kLease,
        .keep_state = keep_state,
    });
  }
  uint64_t PublishedEpoch(const std::string& id) {
    return api_->Get(id).value_or(v1::Migration()).routing().epoch();
  }
  bool Follows(const std::string& id, const std::string& instance, uint64_t epoch) {
    return Eventually(
        [&] { return testing::FindInstance(api_.get(), id, instance).acknowledged_epoch() == epoch; });
  }
  // A new epoch of either migration, which reads fewer keys from new, or as many.
  void PublishNewEpochs() {
    v1::SetMigrationWeightRequest lower;
    lower.set_name(NameOf(kOrders));
    lower.set_weight(30000);
    EXPECT_TRUE(IsOk(api_->Call(&v1::MigrationService::Stub::SetMigrationWeight, lower)));
    v1::DrillRollbackRequest drill;
    drill.set_name(NameOf(kCarts));
    EXPECT_TRUE(IsOk(api_->Call(&v1::MigrationService::Stub::DrillRollback, drill)));
  }
  // Killed and started again without a control plane, by what is on disk.
  void RestartOnState(FleetService* service, uint64_t epoch) {
    service->Kill();
    service->Restart();
    ASSERT_TRUE(Eventually([&] { return !service->Operations().empty(); })) << service->Output();
    const FleetOperation first = service->Operations().front();
    EXPECT_TRUE(first.ok()) << first.write << ", " << first.read << ", " << first.message;
    EXPECT_EQ(first.epoch, epoch);
    EXPECT_EQ(first.side, "old");
    ASSERT_TRUE(service->DoesMore(20));
  }
  // Started with nothing to go by: it says so, and acts on neither side.
  static void ExpectColdStartIsRefused(FleetService* cold) {
    ASSERT_TRUE(cold->DoesMore(5)) << cold->Output();
    for (const FleetOperation& operation : cold->Operations()) {
      EXPECT_EQ(operation.write, "UNAVAILABLE");
      EXPECT_EQ(operation.read, "UNAVAILABLE");
      EXPECT_TRUE(absl::StrContains(operation.message, "no side is assumed")) << operation.message;
    }
    EXPECT_TRUE(testing::MemorySide(cold->directory() + "/old-side").Rows().empty());
    EXPECT_TRUE(testing::MemorySide(cold->directory() + "/new-side").Rows().empty());
  }
  static void ExpectServedThroughout(const SteadyService& keep) {
    EXPECT_EQ(keep.reads_failed(), 0u) << keep.first_error();
    EXPECT_EQ(keep.writes_failed(), 0u) << keep.first_error();
    EXPECT_EQ(keep.served_wrong(), 0u);
    EXPECT_GT(keep.in(kOut).reads, 1000u);
    EXPECT_GT(keep.in(kOut).writes, 1000u);
  }
  // Reads as if nothing were, and writes refused for as long as the lease is over and no longer.
  static void ExpectWritesRefusedWithoutLease(const SteadyService& strict) {
    EXPECT_EQ(strict.reads_failed(), 0u) << strict.first_error();
    EXPECT_EQ(strict.served_wrong(), 0u);
    EXPECT_EQ(strict.not_retriable(), 0u) << strict.first_error();
    EXPECT_TRUE(absl::StrContains(strict.first_error(), "FAIL_WRITES")) << strict.first_error();
    EXPECT_EQ(strict.in(kUp).writes_failed, 0u);
    EXPECT_GT(strict.in(kGrace).writes, strict.in(kGrace).writes_failed);
    EXPECT_GT(strict.in(kOut).writes, 1000u);
    EXPECT_EQ(strict.in(kOut).writes, strict.in(kOut).writes_failed);
    EXPECT_EQ(strict.in(kBack).writes_failed, 0u);
  }
  static void PrintNumbers(absl::Duration outage, const SteadyService& keep, const SteadyService& strict) {
    std::printf(
        "%.1f s without a control plane; KEEP_SERVING: %llu reads and %llu writes, %llu failed; "
        "FAIL_WRITES: %llu reads, %llu failed, %llu of %llu writes refused\n",
        absl::ToDoubleSeconds(outage), static_cast<unsigned long long>(keep.reads()),
        static_cast<unsigned long long>(keep.writes()),
        static_cast<unsigned long long>(keep.reads_failed() + keep.writes_failed()),
        static_cast<unsigned long long>(strict.reads()),
        static_cast<unsigned long long>(strict.reads_failed()),
        static_cast<unsigned long long>(strict.writes_failed()),
        static_cast<unsigned long long>(strict.writes()));
  }
  // Every operation that was served is counted, and every comparison, once.
  void ExpectTotals(const std::vector<SteadyService*>& services) {
    uint64_t reads = 0, writes = 0, comparisons = 0;
    domain::WindowStats totals;
    for (SteadyService* service : services) {
      reads += service->reads() - service->reads_failed();
      writes += service->writes() - service->writes_failed();
      const auto handle = service->client().Resolve(NameOf(kOrders));
      ASSERT_TRUE(IsOk(handle));
      ASSERT_TRUE(IsOk(totals.Merge(service->client().telemetry().Totals(handle->index()))));
    }
    const std::string page = HttpGet(server_.http_port(), "/metrics").body;
    const std::string of = absl::StrCat("{migration=\"", NameOf(kOrders), "\",");
    for (const domain::ComparisonOutcomeInfo& info : domain::kComparisonOutcomes) {
      comparisons += totals.comparison(info.outcome);
      EXPECT_EQ(
          MetricValue(page, absl::StrCat("lockstep_comparisons_total", of, "outcome=\"", info.name, "\"}")),
          static_cast<double>(totals.comparison(info.outcome)))
          << info.name;
    }
    EXPECT_EQ(totals.dropped.telemetry_dropped, 0u);
    EXPECT_EQ(MetricValue(page, absl::StrCat("lockstep_reads_total", of, "side=\"old\",outcome=\"ok\"}")) +
                  MetricValue(page, absl::StrCat("lockstep_reads_total", of, "side=\"new\",outcome=\"ok\"}")),
              static_cast<double>(reads));
    const std::pair<const char*, uint64_t> roles[] = {{"authoritative", totals.writes.authoritative_ok},
                                                      {"mirror", totals.writes.mirror_ok}};
    for (const auto& [role, count] : roles) {
      EXPECT_EQ(
          MetricValue(page, absl::StrCat("lockstep_writes_total", of, "role=\"", role, "\",outcome=\"ok\"}")),
          static_cast<double>(count))
          << role;
    }
    // The write in whose middle the lease ended has failed, and its authoritative half stands.
    EXPECT_GE(totals.writes.authoritative_ok, writes);
    EXPECT_LE(totals.writes.authoritative_ok, writes + 1);
    std::printf("counted once each: %llu reads, %llu writes, %llu comparisons\n",
                static_cast<unsigned long long>(reads), static_cast<unsigned long long>(writes),
                static_cast<unsigned long long>(comparisons));
  }

  store::TempDirectory directory_;
  testing::Lockstepd server_{{.directory = directory_.path(), .flags = {"--gate-interval=50ms"}}};
  std::unique_ptr<ApiClient> api_;
  testing::MemorySide old_side_, new_side_;
};

TEST_F(OutageTest, ServicesGoOnForThirtySecondsWithoutAControlPlane) {
  ASSERT_TRUE(AdvanceTo(api_.get(), kOrders, v1::STAGE_CANARY_READ));
  ASSERT_TRUE(AdvanceTo(api_.get(), kCarts, v1::STAGE_CANARY_READ));
  SteadyService keep(server_.address(), "keep-1", domain::LeasePolicy::kKeepServing, &old_side_, &new_side_);
  SteadyService strict(server_.address(), "strict-1", domain::LeasePolicy::kFailWrites, &old_side_,
                       &new_side_);
  const auto on_disk = NewCarts("on-disk-1", /*keep_state=*/true);
  ASSERT_TRUE(Eventually([&] { return strict.client().CheckMayWrite().ok(); }));
  const auto enter = [&](Phase phase) {
    keep.Enter(phase);
    strict.Enter(phase);
  };
  keep.StartLoad();
  strict.StartLoad();
  const uint64_t carts_epoch = PublishedEpoch(kCarts);
  ASSERT_TRUE(Follows(kCarts, "on-disk-1", carts_epoch)) << on_disk->Output();
  ASSERT_TRUE(on_disk->Serves()) << on_disk->Output();
  ASSERT_TRUE(Eventually([&] { return strict.in(kUp).writes > 100 && keep.in(kUp).reads > 100; }));

  enter(kGrace);
  server_.Kill();
  const absl::Time killed = absl::Now();
  ASSERT_TRUE(Eventually([&] { return !strict.client().CheckMayWrite().ok(); }));
  enter(kOut);
  RestartOnState(on_disk.get(), carts_epoch);
  const auto cold = NewCarts("cold-1", /*keep_state=*/false);
  ExpectColdStartIsRefused(cold.get());
  Eventually([&] { return absl::Now() >= killed + kOutage; });
  EXPECT_TRUE(keep.client().Stats().stale);
  enter(kReturning);
  ASSERT_TRUE(server_.Start()) << server_.Output();
  const absl::Duration outage = absl::Now() - killed;
  ASSERT_TRUE(Eventually([&] { return strict.client().CheckMayWrite().ok(); }));
  enter(kBack);
  api_ = std::make_unique<ApiClient>(server_.address());
  PublishNewEpochs();
  for (SteadyService* service : {&keep, &strict}) {
    const uint64_t epoch = PublishedEpoch(kOrders);
    EXPECT_TRUE(Follows(kOrders, service->client().instance_id(), epoch));
    EXPECT_EQ(service->client().EpochInForce(*service->client().Resolve(NameOf(kOrders))), epoch);
    EXPECT_FALSE(service->client().Stats().stale);
  }
  for (FleetService* service : {on_disk.get(), cold.get()}) {
    EXPECT_TRUE(Follows(kCarts, service->instance(), PublishedEpoch(kCarts))) << service->Output();
    EXPECT_TRUE(service->Serves()) << service->Output();
  }
  const uint64_t before = strict.in(kBack).writes;
  EXPECT_TRUE(Eventually([&] { return strict.in(kBack).writes > before + 50; }));

  keep.StopLoad();
  strict.StopLoad();
  ExpectServedThroughout(keep);
  ExpectWritesRefusedWithoutLease(strict);
  EXPECT_FALSE(on_disk->FirstFailure());
  for (SteadyService* service : {&keep, &strict}) {
    EXPECT_TRUE(IsOk(service->client().Shutdown(absl::Now() + testing::kPatience)));
  }
  PrintNumbers(outage, keep, strict);
  ExpectTotals({&keep, &strict});
  EXPECT_EQ(old_side_.Rows(), new_side_.Rows());
  EXPECT_EQ(on_disk->End(), 0) << on_disk->Output();
  EXPECT_EQ(cold->End(), 0) << cold->Output();
  EXPECT_EQ(testing::MemorySide(on_disk->directory() + "/old-side").Rows(),
            testing::MemorySide(on_disk->directory() + "/new-side").Rows());
  EXPECT_EQ(server_.Stop(), 0) << server_.Output();
}

}  // namespace
}  // namespace lockstep
