// What ThreadSanitizer takes for a race and is none, for every test of --config=tsan.
//
// Debian's abseil is not built for it. Of an absl::Status that two threads have copies of, the
// references are counted by atomics inside the library, which it does not see: that one thread
// reads the message before it drops its copy, and the other deletes what it was the last to have,
// looks unordered.

#if defined(__SANITIZE_THREAD__)
extern "C" const char* __tsan_default_suppressions();
extern "C" const char* __tsan_default_suppressions() { return "race:absl::*Status::Unref\n"; }
#endif
