# Every third-party library, found once. All of them are Debian packages that deploy/setup.sh installs.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(absl REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)  # ships no CMake configuration

find_package(Protobuf MODULE REQUIRED)  # Debian's protobuf has no CMake configuration
if(NOT LOCKSTEP_CORE_ONLY)
  find_package(gRPC CONFIG REQUIRED)
  find_package(RocksDB CONFIG REQUIRED)
  find_package(prometheus-cpp CONFIG REQUIRED COMPONENTS core)
  find_package(Boost REQUIRED)            # Beast and Asio, headers only
  find_package(SQLite3 REQUIRED)
  find_package(yaml-cpp REQUIRED)
  find_package(CLI11 CONFIG REQUIRED)     # the command line, headers only
  pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
endif()

if(LOCKSTEP_BUILD_TESTS)
  find_package(GTest REQUIRED)
  if(LOCKSTEP_BUILD_BENCHMARKS AND NOT LOCKSTEP_CORE_ONLY)
    find_package(benchmark REQUIRED)
  endif()
endif()
