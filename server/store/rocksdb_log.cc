#include "server/store/rocksdb_log.h"

#include <cstdarg>
#include <cstdio>
#include <string>

#include "absl/strings/ascii.h"
#include "core/base/log.h"

namespace lockstep::store {
namespace {

class RocksDbLog final : public rocksdb::Logger {
 public:
  RocksDbLog() : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}

  using rocksdb::Logger::Logv;

  // RocksDB's headers (a dump of all options) come this way, and nothing else that we want.
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}

  void Logv(const rocksdb::InfoLogLevel level, const char* format, va_list arguments) override {
    if (level < GetInfoLogLevel() || level == rocksdb::InfoLogLevel::HEADER_LEVEL) return;
    char text[1024];  // longer lines are cut
    std::vsnprintf(text, sizeof(text), format, arguments);
    Log(level == rocksdb::InfoLogLevel::WARN_LEVEL ? LogLevel::kWarning : LogLevel::kError, "rocksdb",
        {{"detail", absl::StripAsciiWhitespace(text)}});
  }
};

}  // namespace

std::shared_ptr<rocksdb::Logger> NewRocksDbLog() { return std::make_shared<RocksDbLog>(); }

}  // namespace lockstep::store
