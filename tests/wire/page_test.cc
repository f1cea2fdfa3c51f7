#include "core/wire/page.h"

#include <gtest/gtest.h>

#include <set>

#include "absl/strings/escaping.h"
#include "core/base/prng.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

TEST(PageSizeTest, DefaultAndLimits) {
  EXPECT_EQ(*ReadPageSize(0), 100);
  EXPECT_EQ(*ReadPageSize(1), 1);
  EXPECT_EQ(*ReadPageSize(1000), 1000);
  EXPECT_THAT(ReadPageSize(-1).status(), Refuses("page_size", "negative"));
  EXPECT_THAT(ReadPageSize(1001).status(), Refuses("page_size", "at most 1000"));
  EXPECT_THAT(ReadPageSize(std::numeric_limits<int32_t>::min()).status(), Refuses("page_size", "negative"));
}

TEST(PageTokenTest, ComesBack) {
  const PageScope scope("ListDecisions", "namespaces/a/migrations/b");
  EXPECT_EQ(*scope.PositionOf(""), "");
  for (const std::string& position :
       {std::string("1"), std::string("namespaces/a/migrations/b"), std::string(1024, 'x')}) {
    const std::string token = scope.TokenFor(position);
    EXPECT_EQ(token.find_first_of("+/= "), std::string::npos) << token;
    const auto back = scope.PositionOf(token);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, position);
  }
}

TEST(PageTokenTest, AnotherListRefusesIt) {
  const std::string token = PageScope("ListDecisions", "namespaces/a/migrations/b").TokenFor("7");
  for (const PageScope& other :
       {PageScope("ListDecisions", "namespaces/a/migrations/c"),
        PageScope("ListInstances", "namespaces/a/migrations/b"), PageScope("", "")}) {
    EXPECT_THAT(other.PositionOf(token).status(), Refuses("page_token", "not given out for this list"));
  }
}

TEST(PageTokenTest, DamagedTokensAreRefused) {
  const PageScope scope("ListMigrations", "namespaces/a");
  const std::string token = scope.TokenFor("namespaces/a/migrations/b");
  for (size_t i = 0; i < token.size(); ++i) {
    std::string damaged = token;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    // The last character of base64 may carry bits that mean nothing.
    const auto position = scope.PositionOf(damaged);
    EXPECT_EQ(position.value_or("namespaces/a/migrations/b"), "namespaces/a/migrations/b") << i;
    EXPECT_FALSE(position.ok() && i + 1 < token.size()) << i;
    EXPECT_FALSE(scope.PositionOf(token.substr(0, i)).ok() && i > 0) << i;
  }
  EXPECT_FALSE(scope.PositionOf(std::string(100000, 'A')).ok());
}

TEST(PageTokenTest, RandomTokensAreRefused) {
  const uint64_t seed = 20261123;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  const PageScope scope("ListMigrations", "namespaces/a");
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(1 + prng.Below(60), '\0');
    for (char& c : bytes) c = static_cast<char>(prng.Next());
    EXPECT_FALSE(scope.PositionOf(bytes).ok());
    bytes[0] = 1;  // the version
    EXPECT_FALSE(scope.PositionOf(absl::WebSafeBase64Escape(bytes)).ok());
  }
}

}  // namespace
}  // namespace lockstep::wire
