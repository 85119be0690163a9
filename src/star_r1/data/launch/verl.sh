#!/usr/bin/env bash
# GRPO with the STAR reward on verl 0.9.1 (Ray, vLLM). Written by 'star-r1 export verl'.
#
#   bash run.sh                                                     # one node, 8 cards, 7B
#   MODEL=Qwen/Qwen2.5-VL-3B-Instruct GPUS=4 bash run.sh
#   bash run.sh actor_rollout_ref.actor.optim.lr=2e-6               # any setting of verl
#   bash run.sh +reward.custom_reward_function.reward_kwargs.object=0       # an ablation
#   bash run.sh +reward.custom_reward_function.reward_kwargs.reward=sparse  # a rival
#
# Several nodes: this folder at the same path and star-r1 on all of them; then
#   ray start --head --port 6379            # on the first
#   ray start --address FIRST:6379          # on each other
#   NODES=4 bash run.sh                     # on the first, once
#
# The numbers are stand-ins (Reason-RFT's on the same data: STAR-R1's are unpublished), as in
# recipes/ of star-r1; the 16 prompts a step are this project's choice. A checkpoint is resumed
# by the same command.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=${MODEL:-Qwen/Qwen2.5-VL-7B-Instruct}
NODES=${NODES:-1}
GPUS=${GPUS:-8}
OUT=${OUT:-$HERE/run}
PYTHON=${PYTHON:-python3}

if [ "$NODES" -gt 1 ]; then
  export RAY_ADDRESS=${RAY_ADDRESS:-auto} # fail where Ray does not run, do not start one alone
fi
VAL=(data.val_files="$HERE/val.parquet" trainer.test_freq=100 trainer.val_before_train=True)
if [ ! -e "$HERE/val.parquet" ]; then
  VAL=(data.val_files="$HERE/train.parquet" trainer.test_freq=-1 trainer.val_before_train=False)
fi

exec "$PYTHON" -m verl.trainer.main_ppo \
  algorithm.adv_estimator=grpo \
  algorithm.use_kl_in_reward=False \
  data.train_files="$HERE/train.parquet" \
  data.image_key=images \
  data.train_batch_size=16 \
  data.max_prompt_length=4096 \
  data.max_response_length=512 \
  data.seed=0 \
  actor_rollout_ref.model.path="$MODEL" \
  actor_rollout_ref.model.use_remove_padding=True \
  actor_rollout_ref.model.enable_gradient_checkpointing=True \
  actor_rollout_ref.actor.freeze_vision_tower=True \
  actor_rollout_ref.actor.optim.lr=1e-6 \
  actor_rollout_ref.actor.ppo_mini_batch_size=16 \
  actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=4 \
  actor_rollout_ref.actor.clip_ratio=0.2 \
  actor_rollout_ref.actor.use_kl_loss=True \
  actor_rollout_ref.actor.kl_loss_coef=0.04 \
  actor_rollout_ref.actor.kl_loss_type=low_var_kl \
  actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-mean \
  actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8 \
  actor_rollout_ref.rollout.name=vllm \
  actor_rollout_ref.rollout.n=8 \
  actor_rollout_ref.rollout.temperature=0.9 \
  actor_rollout_ref.rollout.top_p=0.9 \
  actor_rollout_ref.rollout.top_k=50 \
  actor_rollout_ref.rollout.tensor_model_parallel_size=1 \
  actor_rollout_ref.rollout.gpu_memory_utilization=0.6 \
  actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8 \
  reward.custom_reward_function.path=pkg://star_r1.reward.adapters.verl \
  reward.custom_reward_function.name=compute_score \
  trainer.logger='["console","tensorboard"]' \
  trainer.project_name=star-r1 \
  trainer.experiment_name=grpo \
  trainer.nnodes="$NODES" \
  trainer.n_gpus_per_node="$GPUS" \
  trainer.total_epochs=1 \
  trainer.save_freq=100 \
  trainer.max_actor_ckpt_to_keep=2 \
  trainer.default_local_dir="$OUT" \
  trainer.validation_data_dir="$OUT/validation" \
  "${VAL[@]}" "$@"
