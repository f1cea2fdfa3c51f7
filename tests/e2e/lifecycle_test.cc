// lockstepd as a process: how it starts, refuses to start, and ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "rocksdb/db.h"
#include "tests/e2e/lockstepd_process.h"
#include "tests/store/temp_directory.h"
#include "tests/support/api_client.h"
#include "tests/support/http_client.h"
#include "tests/support/status_matchers.h"

namespace lockstep {
namespace {

using testing::ApiClient;
using testing::Eventually;
using testing::HttpGet;
using testing::IsOk;
using testing::Lockstepd;
using testing::MetricValue;
using testing::NameOf;
using testing::SampleBatch;
using testing::SampleMigration;

std::string MatchesOf(const std::string& id) {
  return absl::StrCat("lockstep_comparisons_total{migration=\"", NameOf(id), "\",outcome=\"match\"}");
}

class LifecycleTest : public ::testing::Test {
 protected:
  // A second server with a directory of its own for ports and output.
  std::unique_ptr<Lockstepd> Another(testing::LockstepdOptions options) {
    options.directory = absl::StrCat(directory_.path(), "/another");
    std::filesystem::create_directories(options.directory);
    return std::make_unique<Lockstepd>(std::move(options));
  }
  // Starts it, which has to fail with exit code 1 and one line that holds every one of `parts`.
  void ExpectRefused(Lockstepd& server, const std::vector<std::string>& parts) {
    EXPECT_FALSE(server.Start());
    EXPECT_EQ(server.process().Wait(), 1);
    for (const std::string& part : parts) {
      EXPECT_TRUE(absl::StrContains(server.Output(), part)) << "no '" << part << "' in: " << server.Output();
    }
  }

  store::TempDirectory directory_;
  Lockstepd server_{{.directory = directory_.path()}};
};

TEST_F(LifecycleTest, ServesUntilItIsToldToStop) {
  for (const int signal : {SIGTERM, SIGINT}) {
    ASSERT_TRUE(server_.Start()) << server_.Output();
    EXPECT_TRUE(IsOk(ApiClient(server_.address()).Create(absl::StrCat("m-", signal), SampleMigration())));
    EXPECT_EQ(HttpGet(server_.http_port(), "/readyz").status, 200);
    server_.process().Signal(signal);
    EXPECT_EQ(server_.process().Wait(), 0) << server_.Output();
  }
  for (const absl::string_view line : absl::StrSplit(server_.Output(), '\n', absl::SkipEmpty())) {
    EXPECT_TRUE(absl::StartsWith(line, "{\"ts\":\"") && absl::EndsWith(line, "}")) << line;
  }
  for (const char* message : {"serving", "draining", "stopped"}) {
    EXPECT_TRUE(absl::StrContains(server_.Output(), absl::StrCat("\"msg\":\"", message, "\""))) << message;
  }
  ASSERT_TRUE(server_.Start()) << server_.Output();
  ApiClient api(server_.address());
  EXPECT_TRUE(IsOk(api.Get(absl::StrCat("m-", SIGTERM))));
  EXPECT_TRUE(IsOk(api.Get(absl::StrCat("m-", SIGINT))));
}

TEST_F(LifecycleTest, HelpVersionAndUsage) {
  const std::string output = directory_.path() + "/output";
  testing::Finished run = testing::Run({testing::kLockstepdPath, "--help"}, {.output = output});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_TRUE(absl::StrContains(run.output, "--data-dir")) << run.output;
  run = testing::Run({testing::kLockstepdPath, "--version"}, {.output = output});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_TRUE(absl::StartsWith(run.output, "lockstepd ")) << run.output;
  run = testing::Run({testing::kLockstepdPath, "--gate-interval=soon"}, {.output = output});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_TRUE(absl::StrContains(run.output, "--gate-interval")) << run.output;
}

TEST_F(LifecycleTest, APortInUseIsSaidSo) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  const auto grpc = Another({.listen = server_.address()});
  ExpectRefused(*grpc, {server_.address(), "in use", "--listen"});
  const auto http = Another({.http_port = server_.http_port()});
  ExpectRefused(*http, {absl::StrCat("127.0.0.1:", server_.http_port()), "in use", "--http-port"});
  EXPECT_EQ(server_.Stop(), 0);
}

TEST_F(LifecycleTest, ADataDirectoryHasOneServer) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  const auto second = Another({.data_dir = server_.data_dir()});
  ExpectRefused(*second, {server_.data_dir(), absl::StrCat("process ", server_.process().pid())});
  // The lock goes with its holder, however that ended.
  server_.Kill();
  EXPECT_TRUE(second->Start()) << second->Output();
  EXPECT_EQ(second->Stop(), 0);
}

TEST_F(LifecycleTest, ANewerFormatIsRefused) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  EXPECT_EQ(server_.Stop(), 0);
  const std::string path = server_.data_dir() + "/db";
  {
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, path, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> families;
    for (const std::string& name : names) families.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, path, families, &handles, &db).ok());
    rocksdb::WriteOptions synced;
    synced.sync = true;
    EXPECT_TRUE(db->Put(synced, "format", "2").ok());
    for (rocksdb::ColumnFamilyHandle* handle : handles) db->DestroyColumnFamilyHandle(handle);
    delete db;
  }
  ExpectRefused(server_, {server_.data_dir(), "format", "2"});
}

TEST_F(LifecycleTest, ATruncatedLogIsRefusedAndLeftAsItWas) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  ApiClient api(server_.address());
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(IsOk(api.Create(absl::StrCat("m-", i), SampleMigration())));
  server_.Kill();
  std::filesystem::path log;
  for (const auto& entry : std::filesystem::directory_iterator(server_.data_dir() + "/db")) {
    if (entry.path().extension() == ".log" && entry.file_size() > 0) log = entry.path();
  }
  ASSERT_FALSE(log.empty());
  const std::string whole = testing::ReadFileOrEmpty(log.string());
  std::filesystem::resize_file(log, whole.size() / 2);
  ExpectRefused(server_, {server_.data_dir(), "missing", "backup"});
  ExpectRefused(server_, {server_.data_dir()});  // opening it once has not made it acceptable
  std::ofstream(log, std::ios::binary) << whole;
  EXPECT_TRUE(server_.Start()) << server_.Output();
  ApiClient again(server_.address());
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(IsOk(again.Get(absl::StrCat("m-", i))));
}

TEST_F(LifecycleTest, AFullDiskRefusesChangesServesReadsAndHeals) {
  Lockstepd server({.directory = directory_.path(), .small_disk_bytes = 200 << 20});
  if (!server.Start() && server.process().Wait() == testing::kCannotMount) {
    GTEST_SKIP() << "needs root or user namespaces, to mount a small tmpfs";
  }
  ApiClient api(server.address());
  ASSERT_TRUE(IsOk(api.Create("before", SampleMigration()))) << server.Output();
  const std::string filler = server.process().PathInside(server.data_dir() + "/filler");
  {
    std::ofstream file(filler, std::ios::binary);
    const std::string block(1 << 16, 'f');
    while (file.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  // Preallocated space is used up first.
  v1::Migration large = SampleMigration();
  large.set_description(std::string(4096, 'd'));
  large.mutable_pins()->add_old_keys(std::string(1000, 'k'));
  absl::Status refused;
  int acknowledged = 0;
  while (acknowledged < 100000) {
    refused = api.Create(absl::StrCat("m-", acknowledged), large).status();
    if (!refused.ok()) break;
    ++acknowledged;
  }
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "free")) << refused;
  EXPECT_EQ(api.Report(SampleBatch("i-1", 1, 1, "before", 5)).status().code(),
            absl::StatusCode::kResourceExhausted);
  // Reads, decisions and pages go on.
  EXPECT_TRUE(IsOk(api.Get("before")));
  v1::RouteRequest route;
  route.set_migration(NameOf("before"));
  route.set_key("k");
  EXPECT_TRUE(IsOk(api.Call(&v1::RoutingService::Stub::Route, route)));
  EXPECT_EQ(HttpGet(server.http_port(), "/metrics").status, 200);

  std::filesystem::remove(filler);
  EXPECT_TRUE(Eventually([&] { return api.Create("after", SampleMigration()).ok(); })) << server.Output();
  EXPECT_TRUE(IsOk(api.Report(SampleBatch("i-1", 1, 1, "before", 5))));
  for (int i = 0; i < acknowledged; ++i) EXPECT_TRUE(IsOk(api.Get(absl::StrCat("m-", i))));
  EXPECT_EQ(MetricValue(HttpGet(server.http_port(), "/metrics").body, MatchesOf("before")), 5);
  EXPECT_EQ(server.Stop(), 0) << server.Output();
}

// Every acknowledged call of a load that a SIGTERM cuts off is there afterwards, and the exit is a clean one.
TEST_F(LifecycleTest, ATerminationDuringLoadLosesNothingAcknowledged) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  {
    ApiClient api(server_.address());
    ASSERT_TRUE(IsOk(api.Create("load", SampleMigration())));
  }
  constexpr int kWorkers = 4;
  std::atomic<int> under_way{0};
  std::vector<int> created(kWorkers, 0);
  std::vector<uint64_t> reported(kWorkers, 0);
  std::vector<std::thread> workers;
  for (int w = 0; w < kWorkers; ++w) {
    workers.emplace_back([&, w] {
      ApiClient api(server_.address());
      const auto worker = static_cast<size_t>(w);
      const std::string instance = absl::StrCat("i-", w);
      while (true) {
        if (!api.Create(absl::StrCat("m-", w, "-", created[worker]), SampleMigration()).ok()) return;
        ++created[worker];
        if (!api.Report(SampleBatch(instance, 1, reported[worker] + 1, "load", 1)).ok()) return;
        ++reported[worker];
        under_way.fetch_add(1);
      }
    });
  }
  EXPECT_TRUE(Eventually([&] { return under_way >= 40; }));
  EXPECT_EQ(server_.Stop(), 0) << server_.Output();
  for (std::thread& worker : workers) worker.join();

  ASSERT_TRUE(server_.Start()) << server_.Output();
  ApiClient api(server_.address());
  uint64_t total = 0;
  for (int w = 0; w < kWorkers; ++w) {
    const auto worker = static_cast<size_t>(w);
    for (int i = 0; i < created[worker]; ++i) {
      EXPECT_TRUE(IsOk(api.Get(absl::StrCat("m-", w, "-", i))));
    }
    // What was under way is sent again under its number, whether it was counted or not.
    EXPECT_TRUE(IsOk(api.Report(SampleBatch(absl::StrCat("i-", w), 1, reported[worker] + 1, "load", 1))));
    total += reported[worker] + 1;
  }
  EXPECT_EQ(MetricValue(HttpGet(server_.http_port(), "/metrics").body, MatchesOf("load")), total);
}

TEST_F(LifecycleTest, TheCommandSaysWhenNoServerRuns) {
  ASSERT_TRUE(server_.Start()) << server_.Output();
  const std::string output = directory_.path() + "/output";
  const std::vector<std::string> command = {testing::kLockstepPath, "--address", server_.address(),
                                            "migration", "list"};
  testing::Finished run = testing::Run(command, {.output = output});
  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_EQ(server_.Stop(), 0);
  run = testing::Run(command, {.output = output});
  EXPECT_EQ(run.exit_code, 6) << run.output;
  EXPECT_TRUE(absl::StrContains(run.output, server_.address())) << run.output;
}

}  // namespace
}  // namespace lockstep
