#include "core/base/prng.h"

#include <set>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "gtest/gtest.h"

namespace lockstep {
namespace {

// From the reference implementation of SplitMix64.
TEST(SharedPrngTest, KnownNumbers) {
  SharedPrng prng(1234567);
  for (const uint64_t expected : {6457827717110365317u, 3203168211198807973u, 9817491932198370423u,
                                  4593380528125082431u, 16408922859458223821u}) {
    EXPECT_EQ(prng.Next(), expected);
  }
}

TEST(SharedPrngTest, UnitIsUniform) {
  SharedPrng prng(1);
  constexpr int kDraws = 100000;
  constexpr int kParts = 10;
  std::vector<int> counts(kParts);
  for (int i = 0; i < kDraws; ++i) {
    const double unit = prng.Unit();
    ASSERT_GE(unit, 0);
    ASSERT_LT(unit, 1);
    ++counts[static_cast<size_t>(unit * kParts)];
  }
  // Six standard deviations.
  for (const int count : counts) EXPECT_NEAR(count, kDraws / kParts, 6 * 95);
}

TEST(SharedPrngTest, ThreadsDrawTheNumbersOfOneSequence) {
  constexpr int kThreads = 4;
  constexpr int kDraws = 10000;
  SharedPrng prng(5);
  Mutex mutex;
  std::set<uint64_t> drawn;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      std::vector<uint64_t> mine;
      for (int i = 0; i < kDraws; ++i) mine.push_back(prng.Next());
      MutexLock lock(&mutex);
      drawn.insert(mine.begin(), mine.end());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<uint64_t> expected;
  SharedPrng alone(5);
  for (int i = 0; i < kThreads * kDraws; ++i) expected.insert(alone.Next());
  EXPECT_EQ(drawn, expected);
}

}  // namespace
}  // namespace lockstep
