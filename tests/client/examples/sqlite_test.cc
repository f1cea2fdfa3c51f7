#include "client/examples/cities/sqlite.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/examples/cities/files.h"
#include "client/examples/cities/legacy_store.h"
#include "client/examples/cities/modern_store.h"
#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

using ::testing::HasSubstr;

constexpr SqliteSchema kSchema = {.kind = "test database",
                                  .application_id = 77,
                                  .format = 2,
                                  .ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT NOT NULL)"};

TEST(SqliteTest, BindsAndReadsEveryType) {
  const TempDir dir;
  auto db = SqliteDb::Open(dir.File("t.db"), {}, kSchema);
  ASSERT_TRUE(db.ok()) << db.status();
  const auto echo = SqliteStatement::Prepare(*db, "SELECT ?, ?, ?, ? IS NULL, typeof(?)");
  ASSERT_TRUE(echo.ok());
  for (int use = 0; use < 2; ++use) {  // the second use finds the statement reset
    SqliteQuery query(*echo);
    const std::string text("a\0b", 3);
    query.Bind(1, INT64_MIN).Bind(2, 0.1).Bind(3, text).BindNull(4).Bind(5, absl::string_view());
    const auto row = query.Step();
    ASSERT_TRUE(row.ok() && *row) << row.status();
    EXPECT_EQ(query.Int64(0), INT64_MIN);
    EXPECT_EQ(query.Double(1), 0.1);
    EXPECT_EQ(query.Text(2), text);
    EXPECT_EQ(query.Int64(3), 1);
    EXPECT_EQ(query.Text(4), "text") << "the empty text is no NULL";
  }
  SqliteQuery query(*echo);
  query.Bind(6, int64_t{1});
  EXPECT_FALSE(query.Step().ok()) << "there are five parameters";
}

TEST(SqliteTest, ATransactionThatIsNotCommittedLeavesNothing) {
  const TempDir dir;
  auto db = SqliteDb::Open(dir.File("t.db"), {}, kSchema);
  ASSERT_TRUE(db.ok());
  {
    auto transaction = SqliteTransaction::Begin(&*db);
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(db->Exec("INSERT INTO t VALUES (1, 'a')").ok());
  }
  {
    auto transaction = SqliteTransaction::Begin(&*db);
    ASSERT_TRUE(transaction.ok());
    ASSERT_TRUE(db->Exec("INSERT INTO t VALUES (2, 'b')").ok());
    ASSERT_TRUE(transaction->Commit().ok());
  }
  const auto select = SqliteStatement::Prepare(*db, "SELECT group_concat(v) FROM t");
  SqliteQuery query(*select);
  ASSERT_TRUE(query.Step().ok());
  EXPECT_EQ(query.Text(0), "b");
}

TEST(SqliteTest, ErrorsAreTold) {
  const TempDir dir;
  const std::string path = dir.File("t.db");
  SqliteOptions impatient;
  impatient.busy_timeout = absl::ZeroDuration();
  auto a = SqliteDb::Open(path, impatient, kSchema);
  auto b = SqliteDb::Open(path, impatient, kSchema);
  ASSERT_TRUE(a.ok() && b.ok());
  {
    auto holder = SqliteTransaction::Begin(&*a);
    ASSERT_TRUE(holder.ok());
    const absl::Status busy = SqliteTransaction::Begin(&*b).status();
    EXPECT_TRUE(absl::IsUnavailable(busy)) << busy;
    EXPECT_THAT(std::string(busy.message()), HasSubstr(path));
  }
  ASSERT_TRUE(a->Exec("INSERT INTO t VALUES (1, 'a')").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(a->Exec("INSERT INTO t VALUES (1, 'a')")));
  EXPECT_FALSE(SqliteStatement::Prepare(*a, "SELECT nonsense FROM nowhere").ok());
}

TEST(SqliteTest, OpenRefusesTheWrongFile) {
  const TempDir dir;
  SqliteOptions existing;
  existing.create_if_missing = false;
  EXPECT_TRUE(absl::IsNotFound(SqliteDb::Open(dir.File("none.db"), existing, kSchema).status()));
  EXPECT_TRUE(absl::IsNotFound(SqliteDb::Open(dir.File("no/dir.db"), {}, kSchema).status()));

  ASSERT_TRUE(WriteFile(dir.File("text"), std::string(5000, 'x')).ok());
  EXPECT_TRUE(absl::IsDataLoss(SqliteDb::Open(dir.File("text"), {}, kSchema).status()));

  ASSERT_TRUE(SqliteDb::Open(dir.File("t.db"), {}, kSchema).ok());
  SqliteSchema newer = kSchema;
  newer.format = 3;
  const absl::Status format = SqliteDb::Open(dir.File("t.db"), {}, newer).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(format));
  EXPECT_THAT(std::string(format.message()), HasSubstr("of format 2, this program reads format 3"));

  ASSERT_TRUE(LegacyStore::Open(dir.File("legacy.db")).ok());
  const absl::Status kind = ModernStore::Open(dir.File("legacy.db")).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(kind));
  EXPECT_THAT(std::string(kind.message()), HasSubstr("not a modern city database"));
}

TEST(FilesTest, WriteReplacesAndReadNames) {
  const TempDir dir;
  const std::string path = dir.File("f");
  EXPECT_TRUE(absl::IsNotFound(ReadFile(path).status()));
  const std::string large(200'000, 'z');
  for (const std::string& content : {std::string("one"), std::string(), large}) {
    ASSERT_TRUE(WriteFile(path, content).ok());
    const auto read = ReadFile(path);
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(*read, content);
  }
  EXPECT_FALSE(ReadFile(dir.path()).ok()) << "a directory";
  EXPECT_TRUE(absl::IsNotFound(WriteFile(dir.File("no/f"), "x")));
}

}  // namespace
}  // namespace lockstep::examples
