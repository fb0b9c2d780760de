"""What the speed claims of docs/performance.md rest on: `python -m benchmarks [NAME…] [--quick] [--json FILE]`.

Everything is measured over real sockets and a real file, each process alone: server, load and the fake service. A
figure that depends on the machine stands beside a floor from the same run. Not tests: nothing here decides whether a
change is good, and no test asserts a time.
"""
