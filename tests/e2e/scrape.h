// Scrape: what a process answers at /metrics, as Prometheus would read it. Plain functions.

#ifndef DELTAWORKS_TESTS_E2E_SCRAPE_H_
#define DELTAWORKS_TESTS_E2E_SCRAPE_H_

#include <map>
#include <string>

namespace deltaworks::e2e {

// Series ('deltaworks_jobs{state="queued"}') to value. CHECK-fails if nobody answers.
std::map<std::string, double> Scrape(const std::string& address);

// Of one series, 0 if it is absent.
double Sample(const std::map<std::string, double>& samples, const std::string& series);

}  // namespace deltaworks::e2e

#endif  // DELTAWORKS_TESTS_E2E_SCRAPE_H_
