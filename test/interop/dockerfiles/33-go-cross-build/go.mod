module example.test/manager
