#include "server/app/protobuf_log.h"

#include <google/protobuf/stubs/logging.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/mutex.h"

namespace lockstep::app {
namespace {

constexpr absl::Duration kInterval = absl::Minutes(1);
constexpr size_t kMostBytes = 512;  // of a message, which may quote what a client sent

void Handle(google::protobuf::LogLevel level, const char* filename, int line, const std::string& message) {
  static Mutex mutex;
  static absl::Duration next_message = -absl::InfiniteDuration();  // since boot
  static uint64_t untold = 0;
  // protobuf itself ends the process after a fatal message.
  const bool fatal = level == google::protobuf::LOGLEVEL_FATAL;
  if (level < google::protobuf::LOGLEVEL_WARNING) return;
  uint64_t before = 0;
  {
    MutexLock lock(&mutex);
    const absl::Duration now = SystemClock::Get()->SinceBoot();
    if (!fatal && now < next_message) {
      ++untold;
      return;
    }
    next_message = now + kInterval;
    std::swap(before, untold);
  }
  Log(fatal ? LogLevel::kError : LogLevel::kWarning, "protobuf",
      {{"message", message.substr(0, kMostBytes)},
       {"at", absl::StrCat(filename, ":", line)},
       {"not_told_before", absl::StrCat(before)}});
}

}  // namespace

void InstallProtobufLogHandler() { google::protobuf::SetLogHandler(Handle); }

}  // namespace lockstep::app
